"""The checks, one group a file."""

from . import (
    compilation,
    composition,
    contract,
    descent,
    libraries,
    magnitudes,
    matrices,
    model,
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
    model,
    traits,
)
"""In the order in which they run."""
