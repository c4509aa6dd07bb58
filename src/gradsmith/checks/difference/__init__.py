"""Where two optimizers part, and what the difference looks like."""

from .entry import OptimizersDifferError as OptimizersDifferError
from .entry import assert_same_optimizer as assert_same_optimizer
from .entry import diff as diff
from .report import Difference as Difference
from .torch_side import TorchSide as TorchSide
