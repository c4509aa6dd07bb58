"""Numbers that were measured on machines, in one place; `benchmarks/README.md` says how."""

import sys

import jax

NEVER = sys.maxsize
BLOCKS_FROM = {"cpu": 384, "gpu": NEVER, "tpu": NEVER}
"""From this size on, products of symmetric matrices are faster in two by two blocks."""


def platform() -> str:
    """Return the platform that is compiled for: 'cpu', 'gpu' or 'tpu'."""
    return jax.default_backend()
