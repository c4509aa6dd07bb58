"""What every test runs under: eight CPU devices, strict promotion, annotations that are checked."""

import os
from collections import Counter
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # Most of the time goes into compiling thousands of small programs, each run a few times.
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    )
)
# ... so what was compiled once is kept, for the slow stage and for the next run.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

from jaxtyping import install_import_hook

install_import_hook("gradsmith", "beartype.beartype")

import jax
import pytest

collect_ignore_glob = ["faulty/*"]  # wrong on purpose; the check kit reads them

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    parser.addoption(
        "--share", default="1/1", help="2/3 runs the second of three shares of the cases of a test"
    )


def pytest_collection_modifyitems(config, items):
    """Leave out the cases of other shares; a test with few cases runs all of them."""
    mine, shares = map(int, config.option.share.split("/"))
    test = lambda item: (item.parent.nodeid, getattr(item, "originalname", item.name))
    cases, met, kept = Counter(map(test, items)), Counter(), []
    for item in items:
        if cases[test(item)] <= shares or met[test(item)] % shares == mine - 1:
            kept.append(item)
        met[test(item)] += 1
    items[:] = kept


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
