"""Replace every matrix of an update by its polar factor: as a rule, and for a whole tree."""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array

from ..layout.declare import Axes
from ..lift.per_gram import per_gram
from ..lift.per_stack import per_stack
from ..matrix.norms import Normalizer
from ..matrix.polar.coefficients import Schedule
from ..matrix.polar.gram_newton_schulz import GramFactor
from ..matrix.polar.plan import Method, Request
from ..sites.placement import Placement


def orthogonalize(
    method: Method | None = None,
    *,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    normalizer: Normalizer | None = None,
    eps: float | Array = 0.0,
) -> optax.GradientTransformation:
    """Give every matrix of a stack singular values of about 1 (a rule, for `per_stack`).

    A direction: stands before the learning rate. No state. Arguments and costs are those of
    `gradsmith.matrix.orthogonalize`, and are checked here, before anything is traced.

    Raises:
        ValueError: There is no such method or schedule, or no such number of its steps.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.orthogonalize("svd")
        >>> stack = jnp.array([[[4.0, 0.0], [0.0, 3.0]]])
        >>> updates, _ = rule.update(stack, rule.init(stack))
        >>> print(updates)
        [[[1. 0.]
          [0. 1.]]]

    References:
        Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/
    """
    request = Request(method, coefficients, steps, max_error, normalizer, eps)
    return optax.stateless(lambda updates, params: _run(request, updates))


def orthogonalize_tree(
    method: Method | None = None,
    *,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    normalizer: Normalizer | None = None,
    eps: float | Array = 0.0,
    postprocess: optax.GradientTransformation | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
) -> optax.GradientTransformationExtraArgs:
    """Do what `per_stack(chain(orthogonalize(...), postprocess))` does, in the cheapest way.

    Where the method is a function of Gram matrices alone, that is `per_gram`: the matrices are not
    gathered, and those of one short side meet whatever their other side. Otherwise it is
    `per_stack`. The results differ by rounding; see `gradsmith.matrix.gram_newton_schulz`.

    A direction: stands before the learning rate. No state.

    Args:
        method: As for `gradsmith.matrix.orthogonalize`; so are the next five.
        coefficients: The schedule of 'newton_schulz'.
        steps: The number of its steps.
        max_error: The accuracy that chooses a method.
        normalizer: What 'newton_schulz' divides by.
        eps: What it adds to that.
        postprocess: A rule without state for what comes out, such as a shape scale.
        axes: As for `per_stack`.
        placement: As for `per_stack`.

    Raises:
        ValueError: As for `orthogonalize` and `per_stack`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith.transforms.orthogonalize import orthogonalize_tree
        >>> tx = orthogonalize_tree(max_error=0.1)
        >>> grads = {"wide": jnp.eye(2, 4), "tall": 1e-20 * jnp.eye(4, 2)}
        >>> updates, _ = tx.update(grads, tx.init(grads))
        >>> print(jnp.abs(updates["wide"] - updates["tall"].T).max() < 1e-5)
        True
    """
    request = Request(method, coefficients, steps, max_error, normalizer, eps)

    def polar(grams):
        factor = _factor(request, grams.shape[-1], grams.dtype)
        # XLA on CPU copies what it transposes in a stack of one matrix, and not in a matrix.
        return factor(grams[0])[None] if len(grams) == 1 else factor(grams)

    try:
        _factor(request, 1, jnp.float32)
    except ValueError:
        rule = optax.stateless(lambda updates, params: _run(request, updates))
        finished = rule if postprocess is None else optax.chain(rule, postprocess)
        return per_stack(finished, axes=axes, placement=placement)
    return per_gram(polar, scale_free=True, postprocess=postprocess, axes=axes, placement=placement)


def _run(request: Request, stack: Any) -> Array:
    _, m, n = stack.shape
    return request.plan(m, n, stack.dtype).run(stack)


def _factor(request: Request, n: int, dtype: DTypeLike) -> GramFactor:
    factor = request.plan(n, n, dtype, from_gram=True).factor()
    assert factor is not None
    return factor
