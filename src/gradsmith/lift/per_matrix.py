"""The verb for what was written for one matrix."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Shaped

from ..layout.declare import Axes
from ..sites.placement import Placement
from .engine import lift
from .names import name_of
from .per_stack import OnStacks


def per_matrix(
    step: Callable[[Shaped[Array, "m n"]], Shaped[Array, "m n"]] | optax.GradientTransformation,
    *,
    axes: Axes = None,
    placement: Placement = "owners",
) -> optax.GradientTransformationExtraArgs:
    """Make what you wrote for one matrix a transformation of any tree of parameters.

    `step` runs under `jax.vmap` over the matrices of a bucket. Its state may be any tree: counters,
    None, dicts, `(m, m)` factors. Each matrix has its own. Two things follow from `vmap`. First, a
    `lax.cond` whose predicate differs between matrices computes both branches every time. If that
    costs too much, write a rule with one scalar counter for `per_stack`. Second, a random key that
    `init` makes is the same for every matrix. Fold something of the matrix into it.

    Args:
        step: A function `(m, n) -> (m, n)` of one update, `m` being fan-in and `n` fan-out; or an
            `optax.GradientTransformation` with state, written for one such array as its parameter.
        axes: As for `per_stack`.
        placement: As for `per_stack`.

    Raises:
        ValueError: As for `per_stack`; or `step` returns another shape than it was given.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> def unit_columns(update):
        ...     norms = jnp.linalg.norm(update, axis=0, keepdims=True)
        ...     return update / jnp.where(norms > 0, norms, 1)
        >>> optimizer = optax.chain(gs.per_matrix(unit_columns), optax.scale_by_learning_rate(0.5))
        >>> params = {"kernel": jnp.zeros((2, 2))}
        >>> grads = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]])}
        >>> updates, _ = optimizer.update(grads, optimizer.init(params))
        >>> print(updates["kernel"])
        [[-0.5 -0. ]
         [-0.  -0.5]]
    """
    if isinstance(step, optax.GradientTransformation):
        rule = _mapped(step)
    elif callable(step):
        rule = _on_some(step)
    else:
        raise TypeError(
            f"per_matrix takes a function of one matrix or an optax.GradientTransformation, "
            f"got {step!r}"
        )
    return lift(OnStacks(name_of(step), rule), axes=axes, placement=placement)


def _mapped(one: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Turn a transformation of one matrix into a rule."""
    one = optax.with_extra_args_support(one)

    def update_fn(updates, state, params=None, **extra_args):
        update_one = lambda u, s, p: one.update(u, s, p, **extra_args)
        return jax.vmap(update_one)(updates, state, params)

    return optax.GradientTransformationExtraArgs(jax.vmap(one.init), update_fn)


def _on_some(step: Callable) -> Callable[[Array], Array]:
    """Turn a function of one matrix into one of some matrices, or of one."""

    def update_one(update):
        out = step(update)
        if jnp.shape(out) != update.shape:
            raise ValueError(
                f"{name_of(step)} returned shape {jnp.shape(out)} for a matrix of shape "
                f"{update.shape}; a rule returns an update of the shape it was given"
            )
        return out

    return lambda x: update_one(x) if x.ndim == 2 else jax.vmap(update_one)(x)
