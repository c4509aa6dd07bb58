"""What rules for matrices claim: each is held only to what its subject claims.

A claim is about the direction of the first step, from zero parameters and a fresh state, so that
momentum and weight decay say nothing yet. Scales (a learning rate, a factor for the shape) are
left out of account where the claim is not about scale.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..bench import Bench
from ..check import check
from ..steps import STEP_IS_SOUND
from ..verdicts import CheckFailure, NotApplicable

_SINGULAR_VALUES = (1.0, 0.5, 0.2)


def _orthogonal(size: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def _matrix(seed: int = 0) -> np.ndarray:
    """A matrix (4, 3) with known singular values."""
    left, right = _orthogonal(4, seed)[:, :3], _orthogonal(3, seed + 1)
    return left * np.array(_SINGULAR_VALUES) @ right.T


def _first_update(bench: Bench, *matrices: np.ndarray) -> list[np.ndarray]:
    """The first update for gradients that are these matrices, all of one shape."""
    params, where = _tree_of(bench, matrices)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = bench.step(params, bench.tx.init(zeros), zeros)
    return [np.asarray(x, np.float64) for x in where(updates)]


def _tree_of(bench: Bench, matrices: tuple[np.ndarray, ...]) -> tuple[Any, Any]:
    """Put matrices where the subject takes them: in its stack, or in a dict of kernels."""
    arrays = [jnp.asarray(x, jnp.float32) for x in matrices]
    own = bench.subject.params
    if own is None or all(jnp.ndim(leaf) == 2 for leaf in jax.tree.leaves(own)):
        return dict(enumerate(arrays)), lambda tree: list(tree.values())
    if getattr(own, "ndim", 0) == 3:
        return jnp.stack(arrays), list
    raise NotApplicable("the subject's own parameters are neither matrices nor a stack (k, m, n)")


def _fail_if_far(what: str, seen: np.ndarray, expected: np.ndarray, rtol: float) -> None:
    scale = np.max(np.abs(expected))
    error = np.max(np.abs(seen - expected))
    if not error <= rtol * scale:
        raise CheckFailure(f"{what} differs by {error / scale:.2g} of its largest entry")


@check(
    tier="trait",
    needs=STEP_IS_SOUND,
    call='g = {"w": jnp.diag(jnp.array([1.0, 0.5, 0.2]))}; s = tx.init(g); '
    'print(jnp.linalg.svd(tx.update(g, s, g)[0]["w"])[1])',
    cause="too few or wrong Newton-Schulz coefficients, a norm that does not bound the spectral "
    "norm, or a transposition on one side only",
    change="compare your coefficients with their source, one step at a time",
)
def check_polar_factor(bench: Bench) -> None:
    """The direction is the polar factor of the gradient, within the claimed band.

    Its singular vectors are those of a float64 SVD. Claim it as `{"polar_factor": (low, high)}`.
    A common factor is divided out: the largest singular value may be at most high / low times the
    smallest. The gradient has singular values 1, 0.5 and 0.2.
    """
    low, high = bench.subject.claims["polar_factor"]
    gradient = _matrix()
    (update,) = _first_update(bench, gradient)
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    inner = left.T @ update @ right.T
    values = np.diag(inner)
    largest = np.max(np.abs(values))
    stray = np.max(np.abs(update - left * values @ right)) / largest
    if not stray <= 1e-3:
        raise CheckFailure(
            f"singular vectors differ: {stray:.2g} of the update lies off them",
            cause="entries, rows or columns are treated one by one, or a factor is transposed on "
            "one side only",
            change="use only products of matrices and functions of their spectrum",
        )
    if not (np.min(values) * np.max(values) > 0 and largest / np.min(np.abs(values)) <= high / low):
        raise CheckFailure(
            f"the singular values are {np.array2string(values / largest, precision=3)} of the "
            f"largest; the band [{low}, {high}] allows a ratio of {high / low:.3g}"
        )


@check(
    tier="trait",
    needs=STEP_IS_SOUND,
    call='f = lambda g: tx.update({"w": g}, tx.init({"w": g}), {"w": g})[0]["w"]; '
    "a = jnp.diag(jnp.arange(1.0, 4.0)); q = jnp.linalg.qr(jnp.ones((3, 3)) + a)[0]; "
    "print(jnp.round(f(q @ a) - q @ f(a), 5))",
    cause="entries, rows or columns are treated one by one (a sign, a row norm) where the "
    "formula speaks of the matrix as a whole",
    change="use only products of matrices and functions of their spectrum",
)
def check_orthogonal_equivariance(bench: Bench) -> None:
    """Rotating the gradient on both sides rotates the update: f(Q G R) = Q f(G) R."""
    gradient, left, right = _matrix(), _orthogonal(4, 5), _orthogonal(3, 6)
    plain, rotated = _first_update(bench, gradient, left @ gradient @ right)
    _fail_if_far("f(Q G R) against Q f(G) R", rotated, left @ plain @ right, 1e-3)


@check(
    tier="trait",
    needs=STEP_IS_SOUND,
    call='g = {"layer": {**p["layer"], "kernel": 100 * p["layer"]["kernel"]}}; '
    'print(tx.update(g, s, p)[0]["layer"]["kernel"])',
    cause="an eps that is not small beside the gradient, or a missing normalisation",
    change="divide by a norm of the gradient first",
)
def check_scale_invariance(bench: Bench) -> None:
    """A gradient 100 times as large gets the same update."""
    gradient = _matrix()
    plain, scaled = _first_update(bench, gradient, 100 * gradient)
    _fail_if_far("f(100 G) against f(G)", scaled, plain, 1e-3)


@check(
    tier="trait",
    needs=STEP_IS_SOUND,
    call='f = lambda g: tx.update({"w": g}, tx.init({"w": g}), {"w": g})[0]["w"]; '
    "a = jnp.arange(12.0).reshape(4, 3); print(f(a), f(a.T).T)",
    cause="the wide and the tall case are two branches, and one of them is wrong",
    change="transpose on entry and again on return, under the same condition",
)
def check_transposition(bench: Bench) -> None:
    """The direction of the transposed gradient is the transposed direction, up to a factor."""
    gradient = _matrix()
    (plain,) = _first_update(bench, gradient)
    (turned,) = _first_update(bench, gradient.T)
    _fail_if_far(
        "f(G.T).T against f(G), both at length one",
        turned.T / np.linalg.norm(turned),
        plain / np.linalg.norm(plain),
        1e-3,
    )


@check(
    tier="trait",
    needs=STEP_IS_SOUND,
    call="p = jnp.stack([jnp.ones((4, 3)), 9 * jnp.ones((4, 3))]); q = p[:1]; "
    "print(tx.update(p, tx.init(p), p)[0][:1], tx.update(q, tx.init(q), q)[0])",
    cause="a norm or mean is taken over the whole stack instead of over each matrix",
    change="reduce over axis=(-2, -1) with keepdims=True; use .mT, never .T",
)
def check_stack_equals_loop(bench: Bench) -> None:
    """Two matrices treated together get the updates that each gets alone."""
    first, second = _matrix(0), 3 * _matrix(9)
    together = _first_update(bench, first, second)
    for number, alone in enumerate((first, second)):
        (expected,) = _first_update(bench, alone)
        _fail_if_far(f"matrix {number} in a stack against alone", together[number], expected, 1e-3)
