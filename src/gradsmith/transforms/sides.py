"""On which side of the learning rate a transformation stands: told at `init`, read by `describe`.

What stands before the learning rate makes a direction; what stands after it sees the step itself, a
displacement. A chain in another order runs all the same, and means something else than it says.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import optax

from ..layout.decision_log import Side, decision_log
from ..layout.paths import leaves_with_path
from .arguments import ScalarOrSchedule
from .leaves import map_updates
from .schedules import init_schedule, read_schedule

AVERAGES = ("average_weights", "average_tail")
"""What keeps an average of the weights; only one of them can be evaluated."""

RULES: dict[str, Side] = {"hyperball": "learning rate", "pin_radius": "displacement"}
"""The rules that do not stand before the learning rate, as all others do."""

Transformation = TypeVar("Transformation", bound=optax.GradientTransformation)


def stands(side: Side, name: str, tx: Transformation) -> Transformation:
    """Return `tx`, whose `init` also writes down, for each leaf, what acts on it and where."""

    def init_fn(params: Any) -> Any:
        for path, _ in leaves_with_path(params):
            decision_log().steps.setdefault(path, []).append((name, side))
        return tx.init(params)

    return tx._replace(init=init_fn)


def scale_by_learning_rate(learning_rate: ScalarOrSchedule) -> optax.GradientTransformation:
    """Multiply by minus the learning rate, as `optax.scale_by_learning_rate` does, and say so.

    What stands before it makes a direction, what stands after it sees the displacement; `describe`
    knows this learning rate and can point out what stands on the wrong side. Every update keeps its
    dtype.

    Args:
        learning_rate: A number, or a schedule of the number of steps so far.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> twice = optax.chain(gs.muon(0.02), gs.scale_by_learning_rate(0.1))
        >>> print(gs.describe(twice, {"kernel": jnp.zeros((2, 2))}).remarks[0])
        kernel: two learning rates act on it, and their product counts; keep one
    """

    def update_fn(updates, state, params=None):
        del params
        rate, state = read_schedule(learning_rate, state)
        return map_updates(lambda u: -jnp.asarray(rate, u.dtype) * u, updates), state

    tx = optax.GradientTransformation(lambda params: init_schedule(learning_rate), update_fn)
    return stands("learning rate", "learning_rate", tx)


def remark_on_order(steps: Sequence[tuple[str, Side]]) -> str | None:
    """Say what is wrong with what acts on a leaf, first to last; None where nothing is."""
    parts = [(part, side) for name, side in steps for part in name.split(", ")]
    names = [name for name, _ in parts]
    averages = [name for name in names if name in AVERAGES]
    if len(averages) > 1:
        return f"{' and '.join(averages)} average it, and eval_params cannot tell which; keep one"
    if "ema_nesterov" in names[:-1]:
        return (
            f"{names[-1]} stands behind ema_nesterov, where the parameters are ahead of the "
            f"weights; put ema_nesterov last"
        )
    sides = [RULES.get(name, side) for name, side in parts]
    if "learning rate" not in sides:
        return None
    if sides.count("learning rate") > 1:
        return "two learning rates act on it, and their product counts; keep one"
    rate = sides.index("learning rate")
    acting = list(zip(names, sides, strict=True))
    for name, side in acting[:rate]:
        if side == "displacement":
            return (
                f"{name} takes the direction for the step that will be made; "
                f"put it behind the learning rate"
            )
    for name, side in acting[rate + 1 :]:
        if side == "direction":
            return (
                f"{name} makes a direction of what is a step already, and the learning rate no "
                f"longer scales it; put it before the learning rate"
            )
    return None
