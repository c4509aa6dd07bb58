"""The checks, one group a file."""

from . import (
    compilation,
    composition,
    contract,
    descent,
    libraries,
    magnitudes,
    matrices,
    persistence,
    precision,
    purity,
    schedules,
    sharding,
    traits,
    trees,
    workout,
)

GROUPS = (
    contract,
    purity,
    compilation,
    magnitudes,
    precision,
    descent,
    trees,
    workout,
    composition,
    schedules,
    libraries,
    persistence,
    sharding,
    matrices,
    traits,
)
"""In the order in which they run."""
