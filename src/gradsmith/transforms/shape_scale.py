"""How long an orthogonalized update is: three conventions, each named by what it promises.

An orthogonal update `(m, n)` with `m = fan_in` and `n = fan_out` has spectral norm 1 and entries of
root mean square `1 / sqrt(max(m, n))`. Papers disagree on what it should have instead. The word
"spectral" names two different conventions in two libraries, so it names none here.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike


def scale_by_aspect_ratio() -> optax.GradientTransformation:
    """Multiply by `sqrt(max(1, fan_out / fan_in))`: layers that widen take longer steps (a rule).

    A direction: stands before the learning rate, inside `per_stack`, where it sees the true shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.scale_by_aspect_ratio()
        >>> wide, tall = jnp.ones((1, 1, 4)), jnp.ones((1, 4, 1))
        >>> for stack in (wide, tall):
        ...     print(rule.update(stack, rule.init(stack))[0].max())
        2.0
        1.0

    References:
        Keller Jordan, Muon, https://github.com/KellerJordan/Muon: `max(1, rows / columns) ** 0.5`
        of a weight stored as `(fan_out, fan_in)`.
    """
    return _scale_by_shape(lambda m, n: math.sqrt(max(1.0, n / m)))


def match_rms(target: ArrayLike = 0.2) -> optax.GradientTransformation:
    """Multiply by `target * sqrt(max(fan_in, fan_out))`: entries of an RMS of `target` (a rule).

    The update of an orthogonalized matrix of full rank then has the root mean square of a typical
    AdamW update, so that AdamW's learning rates and weight decay carry over.

    A direction: stands before the learning rate, inside `per_stack`.

    Args:
        target: The root mean square of an entry; 0.2 to 0.4 was measured for AdamW.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.match_rms(0.2)
        >>> stack = jnp.eye(2, 8)[None]
        >>> updates, _ = rule.update(stack, rule.init(stack))
        >>> print(jnp.sqrt(jnp.mean(updates**2)).round(3))
        0.2

    References:
        Liu et al., Muon is Scalable for LLM Training, 2025, arXiv:2502.16982, section 2.2.
    """
    return _scale_by_shape(lambda m, n: target * math.sqrt(max(m, n)))


def match_operator_norm(target: ArrayLike = 1.0) -> optax.GradientTransformation:
    """Multiply by `target * sqrt(fan_out / fan_in)`: that RMS-to-RMS operator norm (a rule).

    An input whose entries have RMS 1 then moves the output by at most RMS `target` a unit of
    learning rate, at any width, so that learning rates carry over from a narrow model to a wide
    one.

    A direction: stands before the learning rate, inside `per_stack`.

    Args:
        target: The norm of an orthogonalized update; Scion's radius.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.match_operator_norm()
        >>> stack = jnp.ones((1, 4, 1))
        >>> print(rule.update(stack, rule.init(stack))[0].max())
        0.5

    References:
        Pethick et al., Scion, 2025, arXiv:2502.07529; the default of microsoft/dion.
    """
    return _scale_by_shape(lambda m, n: target * math.sqrt(n / m))


def _scale_by_shape(scale: Callable[[int, int], ArrayLike]) -> optax.GradientTransformation:
    def update_fn(updates, params=None):
        del params
        _, m, n = updates.shape
        return updates * jnp.asarray(scale(m, n), updates.dtype) if m and n else updates

    return optax.stateless(update_fn)
