"""What computed: Python, packages, options, device and processor; what was started, and when."""

import datetime
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from .entries import Entry
from .processes import joined

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
    apart = f" in {jax.process_count()} processes" if joined() else ""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        **{name: str(getattr(jax.config, name)) for name in OPTIONS},
        **{name: os.environ.get(name, "") for name in FLAGS},
        "device": f"{jax.device_count()} {device.device_kind} ({device.platform}){apart}",
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
    }


def about(entries: Sequence[Entry]) -> dict[str, Any]:
    """What a reader of the report wants to know, and no race is refused for: it may differ.

    The command that started the race, the time, and for each entry its routing, its code, and
    whether its schedule is its own.
    """
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "entries": {
            entry.name: {
                "about": entry.about,
                "code": entry.code,
                "own_schedule": entry.own_schedule is not None,
            }
            for entry in entries
        },
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Its name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
