"""What a program is compiled for, and the numbers that decide its form there.

No number changes a result by more than rounding. `benchmarks/README.md` says how they were
measured.
"""

import contextlib
import sys
from dataclasses import dataclass, replace

import jax

NEVER = sys.maxsize
"""A size that no matrix has."""


@dataclass(frozen=True)
class Target:
    """What a program is compiled for. The defaults are those of a target that nobody measured.

    Attributes:
        name: 'cpu', 'gpu', 'tpu', or what a plugin of JAX calls its platform.
        chunk_bytes: How many bytes of matrices are computed at once. On CPUs, what stays in the
            cache is up to a third faster; on TPUs, what stays in the fast memory.
        forces_order: Whether a program needs data dependences to compute one thing after another
            (`xla/order.py`). XLA for CPUs orders for concurrency, at the cost of memory.
        parts: In how many parts, one after the other, an update is computed. On CPUs 8 parts take
            a third of the memory. With 4 parts, GPT-2's temporaries are half as many again; with
            16, compiling it takes a tenth longer. Elsewhere XLA itself minds what is in memory.
        decomposes_batches: Whether one call may decompose several matrices. On CPUs it may hang
            (`xla/decompositions.py`).
        qr_by_library: Whether a QR decomposition is the library's, instead of products
            (`matrix/qr.py`). On CPUs LAPACK's threads hinder XLA's (`xla/decompositions.py`).
            On TPUs loops over columns take 40 times the cycles of all else in a refresh of SOAP.
        blocks_from: The size from which on products of symmetric matrices are faster in two by two
            blocks.
        rational_from: The size from which on two inverses by blocks are faster than the products of
            a polynomial. On accelerators, where eliminating the small blocks is many tiny kernels,
            this is not measured.
        small_rational_slowness: How many times longer a flop of an inverse takes below that size
            than a flop of a product.
        svd_slowness: How many times longer a flop of a singular value decomposition takes.
        gram_block: The largest side of the blocks in which running Gram matrices are averaged in
            place; 0 for whole matrices. On CPUs 384 and 768 are a sixth faster than 256, 512 and
            1024, because a power of two is slow to transpose.
        least_gram_block: The side below which such blocks are not worth it.
        arithmetics: What products can be computed in (`xla/arithmetic.py`), each with the time of
            a flop in it. The first is the fastest, and what iterations that bear it are computed in
            unless one asks for another.
        stored_from: From how many bytes of float32 on a matrix that several products take is
            rounded once and kept so. On TPUs smaller ones stay in the fast memory, where rounding
            them as they are read takes nothing.
        narrows_memory: Whether matrices lie in memory rounded, if they are multiplied so: then half
            as much is read and written around the loop over their chunks. It pays where they are
            made there, and so not for those that other devices have sent: rounding these is a pass
            of its own, and narrow numbers are slower to transpose.
        flops_per_cycle: Of one device, in its fastest arithmetic; 0 where the name tells no device.
        emulates: Whether any other arithmetic may be asked for too: operands are then rounded by
            hand, for tests and for races, and nothing is faster.
    """

    name: str
    chunk_bytes: int = 512 << 20
    forces_order: bool = False
    parts: int = 1
    decomposes_batches: bool = True
    qr_by_library: bool = True
    blocks_from: int = NEVER
    rational_from: int = NEVER
    small_rational_slowness: float = 10.0
    svd_slowness: float = 20.0
    gram_block: int = 0
    least_gram_block: int = 128
    arithmetics: tuple[tuple[str, float], ...] = (("float32", 1.0),)
    stored_from: int = 0
    narrows_memory: bool = False
    flops_per_cycle: int = 0
    emulates: bool = False


# Estimated by the compiler for a v5e: 768 x 768 x 3072 takes 41, 92 and 182 thousand cycles.
_TPU = Target(
    "tpu",
    chunk_bytes=12 << 20,
    stored_from=16 << 20,
    narrows_memory=True,
    arithmetics=(("bfloat16", 1.0), ("bfloat16_3x", 2.2), ("float32", 4.4)),
)
_TARGETS = {
    "cpu": Target(
        "cpu",
        chunk_bytes=512 << 10,
        forces_order=True,
        parts=8,
        decomposes_batches=False,
        qr_by_library=False,
        blocks_from=512,
        rational_from=96,
        gram_block=384,
        narrows_memory=True,
        emulates=True,
    ),
    # The rates of an H100's tensor cores, as NVIDIA gives them.
    "gpu": Target(
        "gpu",
        arithmetics=(
            ("bfloat16", 1.0),
            ("float16", 1.0),
            ("tfloat32", 2.0),
            ("bfloat16_3x", 3.0),
            ("float32", 15.0),
        ),
    ),
    "tpu": _TPU,
    # Four units that multiply and add 128 x 128 numbers in a cycle.
    "tpu v5e": replace(_TPU, name="tpu v5e", flops_per_cycle=4 * 2 * 128 * 128),
}
_OTHER_NAMES = {"cuda": "gpu", "rocm": "gpu"}

# JAX keeps one trace and one compiled program for each value of this context.
_said = jax.make_user_context(default_value=None)


def target(which: str | Target) -> contextlib.AbstractContextManager[None]:
    """Say what is compiled for, if that is not the default backend.

    This is a context manager. Use it to export, lower and price programs for other machines, and
    in tests. Without it, the target is the platform of the ambient mesh, else that of
    `jax.default_device`, else the default backend.

    The target counts while a function is traced. `jax.jit` keeps a program for each target, so
    you may call the same function inside and outside. Results differ by rounding only.

    Args:
        which: 'cpu', 'gpu' ('cuda', 'rocm'), 'tpu' or 'tpu v5e'; or a `Target` with numbers of your
            own.

    Raises:
        ValueError: No target has that name.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> import gradsmith as gs
        >>> x = jax.ShapeDtypeStruct((128, 512), jnp.float32)
        >>> with gs.target("cuda"):
        ...     traced = jax.jit(gs.matrix.orthogonalize).trace(x)
        >>> lowered = traced.lower(lowering_platforms=("cuda",))
    """
    if isinstance(which, Target):
        return _said(which)
    name = _OTHER_NAMES.get(which, which)
    if name not in _TARGETS:
        known = ", ".join((*_TARGETS, *_OTHER_NAMES))
        raise ValueError(
            f"no target is called {which!r}; there are {known}. For another platform give its "
            f"numbers: gradsmith.target(gradsmith.Target({which!r}))"
        )
    return _said(_TARGETS[name])


def current_target() -> Target:
    """Return what is compiled for."""
    if _said.value is not None:
        return _said.value
    platform = _platform()
    return _TARGETS.get(_OTHER_NAMES.get(platform, platform), Target(platform))


def _platform() -> str:
    device = jax.sharding.get_abstract_mesh().abstract_device
    of_mesh = getattr(device, "platform", None)  # not there before JAX 0.10.2
    if of_mesh is not None:
        return of_mesh
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if chosen is not None:
        return chosen if isinstance(chosen, str) else chosen.platform
    return jax.default_backend()
