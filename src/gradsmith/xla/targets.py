"""Numbers that were measured on machines, in one place; `benchmarks/README.md` says how."""

import sys

import jax

NEVER = sys.maxsize
BLOCKS_FROM = {"cpu": 512, "gpu": NEVER, "tpu": NEVER}
"""From this size on, products of symmetric matrices are faster in two by two blocks."""
RATIONAL_FROM = {"cpu": 96, "gpu": NEVER, "tpu": NEVER}
"""From this size on, two inverses by blocks are faster than the products of a polynomial. Not
measured on accelerators, where the elimination of the small blocks is many tiny kernels."""

SMALL_RATIONAL_SLOWNESS = 10.0
"""Below, their flops take about so many times longer than those of products."""

SVD_SLOWNESS = 20.0
"""So many times longer take the flops of a singular value decomposition."""

CHUNK_BYTES = {"cpu": 512 << 10, "gpu": 512 << 20, "tpu": 512 << 20}
"""So many bytes of matrices at once: on CPUs what stays in cache is up to a third faster."""

PARTS = {"cpu": 8, "gpu": 1, "tpu": 1}
"""Into so many parts an update is cut that come one after the other; elsewhere XLA itself minds
what is in memory. With 4, GPT-2's temporaries are half as many again; with 16, compiling it takes a
tenth longer."""

GRAM_BLOCK = {"cpu": 384, "gpu": 0, "tpu": 0}
"""Running Gram matrices are moved in blocks of at most this side. 384 and 768 are a sixth faster
than 256, 512 and 1024: a power of two is slow to transpose."""

LEAST_GRAM_BLOCK = 128
"""In smaller ones it is not worth it."""


def platform() -> str:
    """Return the platform that is compiled for: 'cpu', 'gpu' or 'tpu'."""
    return jax.default_backend()
