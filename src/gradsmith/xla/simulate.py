"""Processes in which the CPU is several devices."""

import os
import re
from collections.abc import Mapping

_COUNT = "--xla_force_host_platform_device_count"


def simulated_devices(count: int) -> Mapping[str, str]:
    """Return the environment of a process with so many CPU devices."""
    flags = re.sub(rf"{_COUNT}=\d+", "", os.environ.get("XLA_FLAGS", ""))
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flags} {_COUNT}={count}"}


def prefer_simulated_devices(count: int) -> None:
    """Give processes that start from here so many CPU devices, unless the user has said which."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    if _COUNT not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_COUNT}={count}"
