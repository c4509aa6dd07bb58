"""What every test runs under: eight CPU devices, strict promotion, annotations that are checked."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

from jaxtyping import install_import_hook

install_import_hook("gradsmith", "beartype.beartype")

import jax
import pytest

collect_ignore_glob = ["faulty/*"]  # wrong on purpose; the check kit reads them

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def forget_what_was_compiled():
    """Keep a worker's memory flat: it meets thousands of small programs, each of them once."""
    yield
    jax.clear_caches()


@pytest.fixture
def standard_promotion():
    """Optax's own adam adds a float32 count to bfloat16 moments: relax promotion around it."""
    with jax.numpy_dtype_promotion("standard"):
        yield
