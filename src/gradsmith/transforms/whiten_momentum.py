"""Momentum whitened in SOAP's basis, for an orthogonalization behind it: SOAP-Muon."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int

from ..matrix.bases import Refresh
from ..matrix.norms import largest_entry
from ..xla.arithmetic import adjoint_times, times_adjoint
from ..xla.chunks import in_chunks
from ..xla.dtypes import wide_dtype
from ..xla.targets import current_target
from .arguments import (
    ScalarOrSchedule,
    check_cadence,
    check_choice,
    check_fractions,
    check_not_negative,
    check_shares,
)
from .averages import average, root, square
from .eigenbases import follow_factors, not_copied, refresh_when_due
from .kronecker import (
    Pair,
    Sides,
    check_sides,
    each_side,
    identities,
    rotate,
    rotate_back,
    with_grams,
)
from .lengths import inner, length, over_length

Trust = tuple[ScalarOrSchedule, ScalarOrSchedule]


class WhitenMomentumState(NamedTuple):
    """What is kept for a stack: momentum, factors, their bases, and a mean square in those."""

    step: Int[Array, ""]
    momentum: Inexact[Array, "k m n"]
    factors: Pair
    bases: Pair
    mean_square: Inexact[Array, "k m n"]


def whiten_momentum(
    decay: ScalarOrSchedule = 0.95,
    b2: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    *,
    factor_decay: ArrayLike | None = None,
    refresh_every: ArrayLike = 1,
    refresh: Refresh = "qr",
    trust: Trust | None = None,
    sides: Sides = "both",
    max_side: int | None = None,
) -> optax.GradientTransformation:
    """Divide Nesterov's momentum by its root mean square in the basis of SOAP (a rule).

    With `u` the momentum of kind 'ema_nesterov' and `P = Q^H u R`, the mean square of `P` moves by
    `b2`, and the direction is `Q (P / max(sqrt(v), eps)) R^H`. Then `L` and `R'`, the averages of
    `G G^H` and `G^H G`, take the raw gradient, and every `refresh_every` steps `Q` and `R` follow
    their eigenvectors: in the first step exactly, later by a step of QR. So the first direction is
    `u`. Nothing is debiased. Meant to stand before `polar_factor`, which takes no notice of
    lengths.

    Without a basis the result is the momentum. If all gradients are diagonal, or are one square
    matrix, the orthogonalized result is Muon's.

    A direction: stands before the learning rate, inside `per_stack`. State for `(m, n)`: `2 m n`
    and `2 m^2 + 2 n^2`. Costs `6 m n (m + n)` flops a step and `5 (m^3 + n^3)` a refresh.

    Args:
        decay: The part of the momentum that survives a step, a number or a schedule of the number
            of steps so far.
        b2: The part of the mean square that survives a step.
        eps: The least root mean square that is divided by, in the units of the gradients. The
            records have losses summed over 524,288 tokens; their 1e-8 is 2e-14 for a mean.
        factor_decay: The part of the factors that survives a step; `b2` by default.
        refresh_every: The number of steps between refreshes. The first follows the first step.
        refresh: 'qr', 'qr_unsorted' or 'eigh'; see `gradsmith.matrix.follow_basis`.
        trust: Least and largest part `c` of the whitened direction `s`, numbers or schedules; by
            default all of it. Then the direction is `u + c (s - u)`, with `s` at the length of `u`,
            and `c` lies between them, by the cosines of `u`, `s` and the gradient. The records do
            this for the projections of attention.
        sides: 'both', 'fan_in', 'fan_out', or the 'smaller' alone; the others keep their basis.
        max_side: A side longer than this keeps its basis. If both do, this is the momentum. By
            default 10,000.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: `max_side` is an array: it decides the shape of the state.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.whiten_momentum(0.5)
        >>> gradients = jnp.array([[[4.0, 0.0], [0.0, -1.0]]])
        >>> state = rule.init(gradients)
        >>> for _ in range(2):
        ...     updates, state = rule.update(gradients, state)
        >>> print(f"{updates[0, 0, 0]:.3f} {updates[0, 1, 1]:.3f}")  # of one length now
        3.162 -3.162

    References:
        modded-nanogpt, optimization track, records 14 to 46, with Schatten-4 norms for lengths.
        https://github.com/KellerJordan/modded-nanogpt
    """
    factor_decay = b2 if factor_decay is None else factor_decay
    check_fractions("whiten_momentum", decay=decay, b2=b2, factor_decay=factor_decay)
    check_not_negative("whiten_momentum", eps=eps)
    check_cadence("whiten_momentum", refresh_every=refresh_every)
    check_choice("refresh", refresh, Refresh)
    check_sides("whiten_momentum", sides, max_side)
    if trust is not None:
        check_shares("whiten_momentum", least_trust=trust[0], most_trust=trust[1])

    def init_fn(params):
        wide = wide_dtype(params.dtype)
        bases = identities(params, sides, max_side, wide)
        zeros = lambda: jnp.zeros_like(params, dtype=wide)
        factors = each_side(jnp.zeros_like, bases)
        return WhitenMomentumState(jnp.zeros((), jnp.int32), zeros(), factors, bases, zeros())

    def update_fn(updates, state, params=None):
        del params
        gradient = updates.astype(wide_dtype(updates.dtype))
        state = refresh_when_due(state, refresh_every, refresh, "eigh", _rotated)
        first = state.step == 0
        beta = decay(state.step) if callable(decay) else decay
        nesterov = lambda mean, gradient: average(beta, mean, gradient)

        def step(moving, bases):
            gradient, mean, mean_square = moving
            mean = nesterov(mean, gradient)
            seen = rotate(bases, nesterov(mean, gradient))
            moved = average(b2, mean_square, square(seen, mean_square))
            divisor = jnp.maximum(root(moved.real), jnp.asarray(eps).astype(moved.real.dtype))
            divisor = jnp.where(first | (divisor == 0), 1.0, divisor).astype(seen.dtype)
            return rotate_back(bases, seen / divisor), mean, jnp.where(first, mean_square, moved)

        if all(basis is None for basis in state.bases):
            mean, mean_square = nesterov(state.momentum, gradient), state.mean_square
            out = nesterov(mean, gradient)
        else:
            moving = (gradient, state.momentum, state.mean_square)
            limit = current_target().chunk_bytes
            out, mean, mean_square = in_chunks(step, limit, moving, state.bases)
            if trust is not None:
                bounds = tuple(x(state.step) if callable(x) else x for x in trust)
                out = _trusted(nesterov(mean, gradient), out, gradient, *bounds)
        moved = lambda old, gram: average(factor_decay, old, gram)
        factors = with_grams(moved, state.factors, Pair(gradient, gradient))
        count = jnp.asarray(optax.safe_increment(state.step))
        state = WhitenMomentumState(count, mean, factors, state.bases, mean_square)
        return out.astype(updates.dtype), state

    return optax.GradientTransformation(init_fn, update_fn)


def _rotated(state: WhitenMomentumState, refresh: Refresh) -> WhitenMomentumState:
    """Return the state in bases that follow the factors, its mean square permuted with them."""
    update = lambda moving, factors: follow_factors(factors, refresh, *moving)
    moving, limit = (state.bases, state.mean_square), current_target().chunk_bytes
    bases, mean_square = in_chunks(update, limit, moving, state.factors)
    factors = not_copied(state.factors)
    return state._replace(factors=factors, bases=bases, mean_square=mean_square)


def _trusted(
    plain: Inexact[Array, "k m n"],
    white: Inexact[Array, "k m n"],
    gradient: Inexact[Array, "k m n"],
    least: ArrayLike,
    most: ArrayLike,
) -> Inexact[Array, "k m n"]:
    """Return the momentum with so much of the whitened one as the cosines say it is worth."""
    white = white * (_size(plain) / _size(white)).astype(white.dtype)
    agrees = (_cosine(white, plain) - 0.2) / 0.8
    ahead = _cosine(white, gradient) / jnp.maximum(_cosine(plain, gradient), 1e-8)
    share = jnp.clip(agrees, 0.0, 1.0) * jnp.clip(ahead, 0.0, 1.0)
    bounds = (jnp.asarray(x).astype(share.dtype) for x in (least, most))
    return plain + jnp.clip(share, *bounds).astype(white.dtype) * (white - plain)


def _cosine(x: Inexact[Array, "k m n"], y: Inexact[Array, "k m n"]) -> Inexact[Array, "k 1 1"]:
    return inner(over_length(x), over_length(y))


def _size(x: Inexact[Array, "k m n"]) -> Inexact[Array, "k 1 1"]:
    """Return the Schatten-4 norm of every matrix, and 1 for one of zeros."""
    unit = largest_entry(x)
    scaled = x / unit.astype(x.dtype)
    m, n = x.shape[-2:]
    gram = times_adjoint(scaled, scaled) if m <= n else adjoint_times(scaled, scaled)
    norm = root(length(gram))
    return unit * jnp.where(norm == 0, 1.0, norm)
