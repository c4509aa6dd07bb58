"""Steps with given gradients, and what must hold after each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .bench import Bench
from .compare import fail_if_far, fail_if_not_finite, fail_if_types_differ, fail_if_unlike
from .rounding import rounding

STEP_IS_SOUND = ("core_runs", "updates_like_params", "state_stable")
"""What checks need that take steps."""

ACROSS = 1e-5
"""The cosine that rounding may give to an update at a right angle to its gradient."""


def fail_if_steps_not_finite(bench: Bench, params: Any, sequence: list[Any]) -> Any:
    """Take one compiled step for each gradient of the sequence; return the last updates."""
    state, updates = bench.tx.init(params), None
    for number, grads in enumerate(sequence, 1):
        updates, state = bench.step(grads, state, params)
        fail_if_not_finite(f"after step {number} the update", updates)
        fail_if_not_finite(f"after step {number} the state", state)
    return updates


def fail_if_state_changes(bench: Bench, params: Any, grads: Any) -> None:
    """Compare the types of the state before and after a step, abstractly."""
    before = bench.tx.init(params)
    _, after = jax.eval_shape(bench.update, grads, before, params)
    fail_if_types_differ("the state after a step", after, before, "at `init` it")


def fail_if_types_widen(bench: Bench, params: Any, grads: Any) -> None:
    """Updates like the parameters, and a stable state, abstractly."""
    updates, _ = jax.eval_shape(bench.update, grads, bench.tx.init(params), params)
    fail_if_unlike("the update", updates, params, "the parameter")
    fail_if_state_changes(bench, params, grads)


def fail_if_step_differs(
    what: str,
    seen: tuple[Any, Any],
    like: tuple[Any, Any],
    like_what: str,
    rtol: float,
    step: Callable,
    *given: Any,
) -> None:
    """Compare two results of `update`, the updates and the new state.

    Args:
        what: Whose result is compared: "a compiled step".
        seen: Its updates and new state.
        like: What they should be.
        like_what: Whose those are.
        rtol: As for `fail_if_far`. 1e-3 is wide for rounding, and no fault of logic is that small.
        step: The computation of which rounding is forgiven, with its arguments `given`.
        *given: Gradients, state, parameters.
    """
    for name, a, b, spared in zip(
        ("update", "new state"), seen, like, rounding(step, *given), strict=True
    ):
        fail_if_far(f"the {name} of {what}", a, b, f"that of {like_what}", rtol, spared)


def filled(like: Any, number: float) -> Any:
    """Gradients of one size, with the signs of `like`."""
    return jax.tree.map(
        lambda g: jnp.asarray((np.sign(np.asarray(g)) * number).astype(g.dtype)), like
    )
