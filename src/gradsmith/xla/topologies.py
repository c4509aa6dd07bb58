"""Devices that are not there, to compile for: TPUs, by the compiler that `libtpu` brings."""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from .targets import target

_PLATFORM = "tpu"
_SHAPES = {
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
    "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}
TOPOLOGIES = tuple(f"{kind}:{shape}" for kind, shapes in _SHAPES.items() for shape in shapes)
"""Those that can be compiled for."""

ARITHMETIC_OF = {"default": "bfloat16", "high": "bfloat16_3x", "highest": "float32"}
"""What a TPU rounds the operands of a product to, by what the product was asked for."""


class NoCompilerError(RuntimeError):
    """What compiles for a topology cannot be had; the message says what to do."""


def devices_of(topology: str) -> Sequence[Any]:
    """Return the devices of a topology such as 'v5e:2x4', none of which need be there.

    Raises:
        ValueError: There is no such topology.
        NoCompilerError: `libtpu` is not installed, or another process has it.
    """
    if topology not in TOPOLOGIES:
        raise ValueError(f"no topology is called {topology!r}; there are {', '.join(TOPOLOGIES)}")
    if importlib.util.find_spec("libtpu") is None:
        raise NoCompilerError(
            f"to compile for {topology} takes libtpu, which brings the compiler and no TPU: "
            "pip install 'gradsmith[tpu]'"
        )
    # Without it, libtpu asks a server of Google's cloud on which machine it runs.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    try:
        return topologies.get_topology_desc(topology, platform=_PLATFORM).devices
    except jax.errors.JaxRuntimeError as error:
        if "lockfile" not in str(error):
            raise
        raise NoCompilerError(
            "another process has libtpu, which allows one at a time: wait for it, or, on a machine "
            "without a TPU, set ALLOW_MULTIPLE_LIBTPU_LOAD=1"
        ) from error


@contextlib.contextmanager
def compiling_for(devices: Sequence[Any]) -> Iterator[None]:
    """Trace and lower for the platform of these devices."""
    with target(devices[0].platform):
        yield


def mesh_of(devices: Sequence[Any], like: jax.sharding.AbstractMesh | Mesh) -> Mesh:
    """Return a mesh of the first of these devices, with the axes of another.

    Raises:
        ValueError: There are too few devices.
    """
    if like.size > len(devices):
        raise ValueError(
            f"a mesh of {like.size} devices does not fit {len(devices)}; there are "
            f"{', '.join(one for one in TOPOLOGIES if _count(one) >= like.size)}"
        )
    some = np.asarray(devices[: like.size]).reshape(like.axis_sizes)
    return Mesh(some, like.axis_names, axis_types=like.axis_types)


def _count(topology: str) -> int:
    return int(np.prod([int(size) for size in re.findall(r"\d+", topology.partition(":")[2])]))
