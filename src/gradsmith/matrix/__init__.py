"""Mathematics on stacks of matrices `(..., m, n)`: no parameter tree, no optimizer, no state."""

from .coefficients import SCHEDULES as SCHEDULES
from .coefficients import Schedule as Schedule
from .newton_schulz import newton_schulz as newton_schulz
from .orthogonalize import orthogonalize as orthogonalize
from .svd import svd_polar as svd_polar
