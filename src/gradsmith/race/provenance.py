"""What computed: Python, packages, options, device and processor."""

import os
import platform
from importlib import metadata
from pathlib import Path

import jax

PACKAGES = ("gradsmith", "jax", "jaxlib", "optax", "flax", "numpy", "scipy")
OPTIONS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # of the environment


def versions() -> dict[str, str]:
    """All that may change the figures of a race and is not in the program of an entry."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        **{name: str(getattr(jax.config, name)) for name in OPTIONS},
        **{name: os.environ.get(name, "") for name in FLAGS},
        "device": f"{jax.device_count()} {device.device_kind} ({device.platform})",
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Its name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
