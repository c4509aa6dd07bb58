"""Optimizers with one fault each, and the check that must find it. `kill_matrix.py` runs them all.

All are small: a rule for one leaf, or momentum with one thing changed, in front of a learning rate.
"""

from . import (
    claims,  # noqa: F401  (it lists its mutants)
    compilation,  # noqa: F401  (it lists its mutants)
    composition,  # noqa: F401  (it lists its mutants)
    contract,  # noqa: F401  (it lists its mutants)
    descent,  # noqa: F401  (it lists its mutants)
    libraries,  # noqa: F401  (it lists its mutants)
    magnitudes,  # noqa: F401  (it lists its mutants)
    model,  # noqa: F401  (it lists its mutants)
    persistence,  # noqa: F401  (it lists its mutants)
    precision,  # noqa: F401  (it lists its mutants)
    purity,  # noqa: F401  (it lists its mutants)
    schedules,  # noqa: F401  (it lists its mutants)
    sharding,  # noqa: F401  (it lists its mutants)
    trees,  # noqa: F401  (it lists its mutants)
    workout,  # noqa: F401  (it lists its mutants)
)
from .base import MUTANTS as MUTANTS
from .base import Mutant as Mutant
from .base import leafwise as leafwise
