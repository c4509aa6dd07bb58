"""The clients run as they run for their users: with JAX's own promotion, and their own warnings."""

import jax
import pytest


@pytest.fixture(autouse=True)
def as_shipped():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
