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
    sharding,
    traits,
    trees,
)

GROUPS = (
    contract,
    purity,
    compilation,
    magnitudes,
    precision,
    descent,
    trees,
    composition,
    libraries,
    persistence,
    sharding,
    matrices,
    traits,
)
"""In the order in which they run."""
