"""SOAP: Adam in the eigenbasis of Shampoo's two factors."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int

from ..matrix.bases import Refresh
from ..xla.arithmetic import matmul
from ..xla.chunks import in_chunks
from ..xla.dtypes import wide_dtype
from ..xla.targets import current_target
from .adam import scale_by_adam
from .arguments import check_cadence, check_choice, check_fractions
from .averages import average
from .eigenbases import Start, follow_factors, not_copied, refresh_when_due
from .kl_factors import kl_statistics
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

Factors = Literal["shampoo", "kl"]


class SoapState(NamedTuple):
    """What SOAP keeps for a stack: factors, their bases, and Adam's moments in those bases."""

    step: Int[Array, ""]
    factors: Pair
    bases: Pair
    eigenvalues: Any  # a `Pair` of those of the factors where they are 'kl', else None
    adam: Any  # an `optax.ScaleByAdamState`, its moments in the bases


def scale_by_soap(
    b1: ArrayLike = 0.95,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-8,
    *,
    factor_decay: ArrayLike | None = None,
    factors: Factors = "shampoo",
    refresh_every: ArrayLike = 10,
    refresh: Refresh = "qr",
    start: Start = "identity",
    debias: bool = True,
    sides: Sides = "both",
    max_side: int | None = None,
) -> optax.GradientTransformation:
    """Run Adam in the slowly rotating eigenbasis of the gradients' covariance (a rule).

    With `G' = Q^H G P`, Adam's moments of `G'`, and its direction `N`, the update is `Q N P^H`.
    Then `L <- d L + (1 - d) G G^H`, and `R` in the same way with `G^H G`. Every `refresh_every`
    steps `Q` and `P` follow their eigenvectors, the mean is rotated with them, and the mean square
    is permuted.

    Directions that no gradient has had yet have no eigenbasis. The longer side of a matrix has such
    directions in the first steps; every side has them if gradients have low rank. Round-off chooses
    a basis for them. So two runs that differ by round-off soon differ by whole updates, here as in
    the authors' code. There are two ways to keep such runs together. `sides="smaller"` gives the
    longer side no basis; it helps if gradients have full rank. `factors="kl"` starts from the
    identity; it helps as long as `factor_decay^t` is more than round-off.

    A direction: stands before the learning rate, inside `per_stack`. State for `(m, n)`: `2 m n`
    of Adam and `2 m^2 + 2 n^2`. Costs `6 m n (m + n)` flops a step, a sixth less where large
    factors are averaged by blocks (`Target.gram_block`), and a refresh
    `5 (m^3 + n^3) + 4 m n (m + n)`, nearly all in matrix products unless 'eigh' is asked for.

    Args:
        b1: The part of the mean that survives a step.
        b2: The part of the mean square that survives a step.
        eps: Added to the root of the mean square.
        factor_decay: The part of the factors that survives a step; `b2` by default.
        factors: 'shampoo' as above; 'kl' weighs each gradient by the other side's eigenvalues,
            `G P diag(1 / lambda) P^H G^H / n`, which fits a Kronecker product to the covariance of
            the gradients in the Kullback-Leibler sense. The first gradient sets the scale the
            factors start from.
        refresh_every: The number of steps between refreshes. The first follows the first step.
        refresh: 'qr', 'qr_unsorted' or 'eigh'; see `gradsmith.matrix.follow_basis`. A refresh takes
            the eigenvalues of 'kl' anew; with 'qr_unsorted' they are averages all the time.
        start: 'identity' steps as Adam in the first step. 'eigh' is the authors' code: the first
            gradient only sets the basis, by an eigendecomposition, and nothing moves. With 'kl' and
            'qr_unsorted' it also sets the factors to `G G^H / n` and `G^H G / m` and their
            eigenvalues to 0.1, as in the modded-nanogpt records.
        debias: Whether Adam's moments are divided by what they lack in the first steps.
        sides: 'both', 'fan_in', 'fan_out', or the 'smaller' alone; the others keep their basis.
        max_side: A side longer than this keeps its basis. If both do, this is Adam. By default
            10,000.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: `max_side` is an array: it decides the shape of the state.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.scale_by_soap()
        >>> gradients = jnp.array([[[4.0, 0.0], [0.0, -3.0]]])
        >>> updates, state = rule.update(gradients, rule.init(gradients))
        >>> print(updates.round(3))
        [[[ 1.  0.]
          [ 0. -1.]]]

    References:
        Vyas et al., SOAP, 2024, arXiv:2409.11321 and https://github.com/nikhilvyas/SOAP;
        Lin et al., KL-Shampoo, 2025, arXiv:2509.03378.
    """
    factor_decay = b2 if factor_decay is None else factor_decay
    check_fractions("scale_by_soap", b1=b1, b2=b2, factor_decay=factor_decay)
    check_cadence("scale_by_soap", refresh_every=refresh_every)
    check_choice("refresh", refresh, Refresh)
    check_choice("start", start, Start)
    check_choice("kind of factors", factors, Factors)
    check_sides("scale_by_soap", sides, max_side)
    inner = scale_by_adam(b1, b2, eps, debias=debias)
    keeps_values = refresh == "qr_unsorted"
    rotated = functools.partial(_rotated, keeps_values=keeps_values)
    from_gradient = start == "eigh" and keeps_values

    def init_fn(params):
        bases = identities(params, sides, max_side, wide_dtype(params.dtype))
        return SoapState(
            step=jnp.zeros((), jnp.int32),
            factors=each_side(jnp.zeros_like, bases),
            bases=bases,
            eigenvalues=each_side(lambda q: jnp.ones(q.shape[:-1], q.dtype), bases)
            if factors == "kl"
            else None,
            adam=inner.init(params),
        )

    def update_fn(updates, state, params=None):
        del params
        state = refresh_when_due(state, refresh_every, refresh, start, rotated)
        gradient = updates.astype(wide_dtype(updates.dtype))

        def step(moving, bases):
            x, mean, mean_square = moving
            adam = state.adam._replace(mu=mean, nu=mean_square)
            direction, adam = inner.update(rotate(bases, x), adam)
            return rotate_back(bases, jnp.asarray(direction)), *moments(adam)

        moments = lambda adam: (adam.mu, adam.nu)
        moving = (gradient, *moments(state.adam))
        out, mean, mean_square = in_chunks(step, current_target().chunk_bytes, moving, state.bases)
        count = jnp.asarray(optax.safe_increment(state.adam.count))
        adam = optax.ScaleByAdamState(count, mean, mean_square)
        out = out.astype(updates.dtype)
        state = _with_factors(state, gradient, factor_decay, from_gradient)
        if start == "eigh":
            starts = state.step == 0
            out = jnp.where(starts, 0, out)
            adam = jax.tree.map(lambda old, new: jnp.where(starts, old, new), state.adam, adam)
        state = state._replace(adam=adam)
        return out, state._replace(step=jnp.asarray(optax.safe_increment(state.step)))

    return optax.GradientTransformation(init_fn, update_fn)


def _with_factors(
    state: SoapState, gradient: Inexact[Array, "k m n"], decay: ArrayLike, from_gradient: bool
) -> SoapState:
    """Return the state with the factors, and their eigenvalues if kept, moved by this gradient.

    Or started from it, if it is the first.
    """
    averaged = functools.partial(average, decay)
    if state.eigenvalues is None:
        halves = Pair(gradient, gradient)
        return state._replace(factors=with_grams(averaged, state.factors, halves))
    first = state.step == 0
    if not from_gradient:
        state = _with_scale(state, gradient)
    halves, diagonals = kl_statistics(state.bases, state.eigenvalues, gradient)
    if from_gradient:  # the first eigenvalues are ones, so that the halves are not weighed
        averaged = lambda old, new: jnp.where(first, new, average(decay, old, new))
        diagonals = each_side(lambda x: jnp.where(first, jnp.full_like(x, 0.1), x), diagonals)
    return state._replace(
        factors=with_grams(averaged, state.factors, halves),
        eigenvalues=each_side(averaged, state.eigenvalues, diagonals),
    )


def _with_scale(state: SoapState, gradient: Inexact[Array, "k m n"]) -> SoapState:
    """Return the state whose factors start at `c I` and `I`, `c` the first mean square.

    From zero, a direction that the first gradients lack would have eigenvalue zero, and weigh
    infinitely when it appears; from `I`, gradients of 1e-6 would be lost to round-off in it.
    """
    size = max(1, gradient.shape[-2] * gradient.shape[-1])
    mean_square = jnp.sum(jnp.square(jnp.abs(gradient)), axis=(-2, -1), keepdims=True) / size
    scale = jnp.where(mean_square > 0, mean_square, 1.0)
    scales = Pair(scale, scale if state.bases.fan_in is None else jnp.ones_like(scale))
    first = state.step == 0
    start = lambda old, basis, scale: jnp.where(first, scale.astype(old.dtype) * basis, old)
    start_values = lambda old, scale: jnp.where(first, scale[..., 0].astype(old.dtype) * old, old)
    return state._replace(
        factors=each_side(start, state.factors, state.bases, scales),
        eigenvalues=each_side(start_values, state.eigenvalues, scales),
    )


def _rotated(state: SoapState, refresh: Refresh, keeps_values: bool) -> SoapState:
    """Return the state in bases that follow the factors: mean rotated, mean square permuted.

    Eigenvalues that are averages all the time stay as they are.
    """
    moving = (state.bases, state.eigenvalues, state.adam.mu, state.adam.nu)
    update = lambda moving, factors: _followed(factors, refresh, keeps_values, *moving)
    bases, values, mean, square = in_chunks(
        update, current_target().chunk_bytes, moving, state.factors
    )
    return state._replace(
        factors=not_copied(state.factors),
        bases=bases,
        eigenvalues=values,
        adam=state.adam._replace(mu=mean, nu=square),
    )


def _followed(
    factors: Pair, refresh: Refresh, keeps_values: bool, bases: Pair, eigenvalues, mean, mean_square
):
    new, mean_square = follow_factors(factors, refresh, bases, mean_square)
    if eigenvalues is not None and not keeps_values:
        quotients = lambda a, q: jnp.sum(q.conj() * matmul(a, q), -2)
        eigenvalues = each_side(quotients, factors, new)
    return new, eigenvalues, rotate(new, rotate_back(bases, mean)), mean_square
