"""PSGD Kron: a preconditioner for each side, fitted so that it whitens the gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact, Int

from ..matrix.norms import largest_entry
from ..xla.arithmetic import adjoint, adjoint_times, matmul, times_adjoint
from ..xla.chunks import in_chunks
from ..xla.dtypes import wide_dtype
from ..xla.targets import current_target
from .arguments import check_cadence, check_fractions, check_not_negative
from .averages import average, below_one, root
from .kronecker import Pair, Sides, check_sides, each_side, identities, rotate

ROUNDS = 6  # of power iteration; the norm of a Gaussian matrix is then known to a tenth
_LEAST = 1e-9  # of the first gradient, for the size that the factors start with
RMS, ENTRY = 2.0, 10.0  # the largest root mean square of an update, and the largest entry


class PsgdState(NamedTuple):
    """The number of steps, the momentum, and for each side a factor and the bound of its step."""

    step: Int[Array, ""]
    mean: Inexact[Array, "k m n"]
    factors: Pair
    bounds: Pair


def scale_by_psgd(
    b1: ArrayLike = 0.9,
    *,
    factor_rate: ArrayLike = 0.1,
    factor_decay: ArrayLike = 0.9,
    damping: ArrayLike = 1e-9,
    refresh_every: ArrayLike = 1,
    sides: Sides = "both",
    max_side: int | None = None,
) -> optax.GradientTransformation:
    """Whiten the momentum from both sides, by factors that learn to whiten the gradients (a rule).

    Each side has a factor `Q`, and `P = Q^H Q` multiplies: the update is `P M R` of the momentum
    `M`. The factors are fitted to each gradient `G` before: with `X = P G R` and `m, n` the sides,
    `Q <- Q - rate / L (X X^H - n) Q`, and then a small rotation brings `Q` nearer to a symmetric
    matrix. `L` is the largest `|X X^H| + n` of late. The fixed point is where `X X^H` is `n` on
    average: the entries of `X` then have a root mean square of 1. Nothing is inverted or
    decomposed. For a constant gradient the update becomes `sqrt(n)` times its polar factor.

    The authors' code is random in three places, and this is not. The noise in the gradient, which
    keeps directions without gradient from growing for ever, is replaced by its expectation. Norms
    are estimated from a fixed vector. The factors are fitted every `refresh_every` steps. So a run
    does not depend on the mesh, the order of the matrices, or a key. A gradient of zero changes no
    factor.

    A direction: stands before the learning rate, inside `per_stack`. State for `(m, n)`: the
    momentum, `m^2 + n^2` and two numbers. Costs `2 m n (m + n) + 2 (m^3 + n^3)` flops to apply,
    and `4 m n (m + n) + 10 (m^3 + n^3)` to fit.

    Args:
        b1: The part of the momentum that survives a step; at first less, so that it is a mean.
        factor_rate: The learning rate of the factors.
        factor_decay: The part of the bound `L` that survives a step.
        damping: The root mean square of gradients that count as noise; round-off counts too.
        refresh_every: The number of steps between fits.
        sides: Which sides have a factor: 'both', 'fan_in', 'fan_out', or the 'smaller' alone.
        max_side: A side longer than this has none. By default 10,000.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: `max_side` is an array: it decides the shape of the state.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.scale_by_psgd()
        >>> gradients = jnp.array([[[4.0, 0.0], [0.0, -3.0]]])
        >>> state, update = rule.init(gradients), jax.jit(rule.update)
        >>> for _ in range(100):
        ...     updates, state = update(gradients, state)
        >>> print(updates.round(2))
        [[[ 1.41  0.  ]
          [ 0.   -1.41]]]

    References:
        Li, Preconditioned Stochastic Gradient Descent, 2018, arXiv:1512.04202; Pooladzandi and Li,
        2024, arXiv:2402.04553; https://github.com/lixilinx/psgd_torch, its default `Q0.5EQ1.5`.
    """
    check_fractions("scale_by_psgd", b1=b1, factor_decay=factor_decay)
    check_not_negative("scale_by_psgd", factor_rate=factor_rate, damping=damping)
    check_cadence("scale_by_psgd", refresh_every=refresh_every)
    check_sides("scale_by_psgd", sides, max_side)

    def init_fn(params):
        factors = identities(params, sides, max_side, wide_dtype(params.dtype))
        bound = lambda q: jnp.zeros_like(_sum_of_squares(q))
        return PsgdState(
            jnp.zeros((), jnp.int32),
            jnp.zeros_like(params, dtype=wide_dtype(params.dtype)),
            factors,
            each_side(bound, factors),
        )

    def update_fn(updates, state, params=None):
        del params
        step = jnp.asarray(optax.safe_increment(state.step))
        gradient = updates.astype(state.mean.dtype)
        real = gradient.real.dtype
        so_far = state.step.astype(real)
        decay = jnp.minimum(below_one(b1, real), so_far / (so_far + 1))
        mean = average(decay, state.mean, gradient)

        number = lambda x: jnp.asarray(x, real)
        numbers = _Numbers(number(factor_rate), below_one(factor_decay, real), number(damping))
        limit = current_target().chunk_bytes

        def fit_all(moving):
            fit = lambda old, g: _fitted(numbers, old[0], old[1], g)
            return in_chunks(fit, limit, moving, gradient)

        factors, bounds = moving = (state.factors, state.bounds)
        if any(q is not None for q in factors):
            due = state.step % jnp.asarray(refresh_every, step.dtype) == 0
            factors, bounds = jax.lax.cond(due, fit_all, lambda moving: moving, moving)

        apply = lambda mean, factors: _clipped(rotate(each_side(_square, factors), mean))
        out = in_chunks(apply, limit, mean, factors)
        return out.astype(updates.dtype), PsgdState(step, mean, factors, bounds)

    return optax.GradientTransformation(init_fn, update_fn)


def _square(q: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    return adjoint_times(q, q)


class _Numbers(NamedTuple):
    """The arguments, in the dtype of the state."""

    rate: Array
    decay: Array
    damping: Array


def _fitted(
    numbers: _Numbers, factors: Pair, bounds: Pair, gradient: Inexact[Array, "*stack m n"]
) -> tuple[Pair, Pair]:
    """Return the factors and bounds after this gradient."""
    m, n = gradient.shape[-2:]
    unit = largest_entry(gradient)
    parts = gradient / unit.astype(gradient.dtype)
    exists = _mean_of_squares(parts) > 0
    fourth = unit * root(root(_mean_of_squares(jnp.square(jnp.abs(parts)))))
    scale = jnp.maximum(fourth, _LEAST) ** (-0.5 / sum(q is not None for q in factors))
    first = lambda q, bound: jnp.where((bound == 0) & exists, scale.astype(q.dtype) * q, q)
    factors = each_side(first, factors, bounds)
    squares = each_side(_square, factors)
    whitened = rotate(squares, gradient)
    noise = numbers.damping + jnp.finfo(unit.dtype).eps * unit * root(_mean_of_squares(parts))
    grams = Pair(times_adjoint(whitened, whitened), adjoint_times(whitened, whitened))
    sizes, others = Pair(n, m), Pair(squares.fan_out, squares.fan_in)

    def move(q, bound, p, gram, size, other):
        power = size if other is None else _sum_of_squares(other)
        gram = gram + (noise**2 * power).astype(q.dtype) * matmul(p, p)
        norm = _norm(gram) + size
        new_bound = jnp.maximum(average(numbers.decay, bound, norm), norm)
        step = (numbers.rate / new_bound).astype(q.dtype)
        moved = _straightened(q - step * (matmul(gram, q) - size * q))
        return jnp.where(exists, moved, q), jnp.where(exists, new_bound, bound)

    moved = each_side(move, factors, bounds, squares, grams, sizes, others)
    return each_side(lambda pair: pair[0], moved), each_side(lambda pair: pair[1], moved)


def _straightened(q: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    """Return `q` rotated towards a symmetric matrix, which changes nothing of `q^H q`.

    The rotation is the exponential of a skew matrix, to second order and of norm up to 1/8, as far
    along it as raises the trace of `q` most.
    """
    skew = adjoint(q) - q
    turned = matmul(skew, q)
    slope = _trace(turned)
    bend = jnp.sum((skew * turned.mT).real, axis=(-2, -1), keepdims=True)
    norm = _norm(skew)
    most = 0.125 / jnp.where(norm == 0, 1.0, norm)
    bends = bend < 0
    best = jnp.minimum(-slope / jnp.where(bends, bend, 1.0), most)
    angle = jnp.where(bends, best, most).astype(q.dtype)
    return q + angle * (turned + 0.5 * angle * matmul(skew, turned))


def _norm(x: Inexact[Array, "*stack n n"]) -> Float[Array, "*stack 1 1"]:
    """Return the spectral norm of symmetric or skew matrices, from below, by power iteration."""
    unit = largest_entry(x)
    x = x / unit.astype(x.dtype)
    start = jnp.cos(jnp.arange(1, x.shape[-1] + 1, dtype=x.real.dtype))
    vector = jnp.broadcast_to(start.astype(x.dtype)[:, None], (*x.shape[:-1], 1))
    norm = jnp.ones_like(vector[..., :1, :].real)
    for _ in range(ROUNDS + 1):
        vector = matmul(x, vector / jnp.where(norm == 0, 1.0, norm).astype(x.dtype))
        norm = root(_sum_of_squares(vector))
    return unit * norm


def _clipped(x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack m n"]:
    """Return `x` with a root mean square of at most `RMS`, and no entry above `ENTRY`."""
    unit = largest_entry(x)
    rms = unit * root(_mean_of_squares(x / unit.astype(x.dtype)))
    x = x * (RMS / jnp.maximum(rms, RMS)).astype(x.dtype)
    return x * (ENTRY / jnp.maximum(jnp.abs(x), ENTRY)).astype(x.dtype)


def _sum_of_squares(x: Inexact[Array, "*stack m n"]) -> Float[Array, "*stack 1 1"]:
    return jnp.sum(jnp.square(jnp.abs(x)), axis=(-2, -1), keepdims=True)


def _mean_of_squares(x: Inexact[Array, "*stack m n"]) -> Float[Array, "*stack 1 1"]:
    return _sum_of_squares(x) / max(1, x.shape[-2] * x.shape[-1])


def _trace(x: Inexact[Array, "*stack n n"]) -> Float[Array, "*stack 1 1"]:
    return jnp.trace(x.real, axis1=-2, axis2=-1)[..., None, None]
