"""The rule that replaces an update by its polar factor."""

from typing import get_args

import optax
from jaxtyping import Array

from ..matrix.coefficients import Schedule, schedule_of
from ..matrix.orthogonalize import Method
from ..matrix.orthogonalize import orthogonalize as polar_factor


def orthogonalize(
    method: Method = "newton_schulz",
    *,
    coefficients: str | Schedule = "keller",
    steps: int | None = None,
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
    if method not in get_args(Method):
        raise ValueError(f"no method is called {method!r}; there are {', '.join(get_args(Method))}")
    schedule = schedule_of(coefficients)
    schedule.steps(steps)

    def update_fn(updates, params=None):
        del params
        return polar_factor(updates, method, coefficients=schedule, steps=steps, eps=eps)

    return optax.stateless(update_fn)
