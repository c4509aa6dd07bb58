"""A learning rate that changes while training runs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..bench import Bench
from ..check import check
from ..compare import at, fail_if_far, fail_if_not_finite, host
from ..rounding import rounding
from ..steps import STEP_IS_SOUND
from ..verdicts import CheckFailure, NotApplicable

_STEPS = 5
_FALL = 2
_SEEN = 1e-2
"""An update changes visibly when it changes by this much of its largest entry."""


def _updates_under(bench: Bench, rate: Any) -> list[Any]:
    """The updates of some steps with one gradient, from the first parameters."""
    tx = bench.subject.build(**{str(bench.subject.rate_name): rate})
    update = bench.compiled(tx)
    state, taken = tx.init(bench.params), []
    for _ in range(_STEPS):
        updates, state = update(bench.grads, state, bench.params)
        taken.append(updates)
    return taken


def _falling(bench: Bench) -> list[Any]:
    """The updates under a schedule that is zero from count 2 on."""
    if "falling" not in bench.memory:
        value = bench.subject.rate_value
        schedule = lambda count: jnp.where(count < _FALL, value, 0.0)
        bench.memory["falling"] = _updates_under(bench, schedule)
    return bench.memory["falling"]


def _constant(bench: Bench) -> list[Any]:
    """The updates under the constant."""
    if "constant" not in bench.memory:
        bench.memory["constant"] = _updates_under(bench, bench.subject.rate_value)
    return bench.memory["constant"]


def _require_schedules(bench: Bench) -> None:
    """Skip where a schedule is refused: that is a remark, and `schedule` makes it."""
    try:
        _falling(bench)
    except Exception as error:
        raise NotApplicable(
            f"a schedule is refused ({type(error).__name__}); the check `schedule` says how"
        ) from None


@check(
    tier="advisory",
    requires=("factory", "learning_rate"),
    needs=(*STEP_IS_SOUND, "no_recompile"),
    unless=("no_schedule",),
    call="i = FACTORY(lambda count: 0.01); print(i.update(p, i.init(p), p)[0])",
    cause="the learning rate is used in arithmetic where a schedule is a function of the count, or "
    "the count is incremented before the schedule sees it",
    change="end the chain with optax.scale_by_learning_rate(lr), which takes both",
)
def check_schedule(bench: Bench) -> None:
    """A schedule is accepted as learning rate, and asked for counts 0, 1, 2.

    One that falls to zero at count 2 gives the first two updates of the constant.
    """
    given = (bench.grads, bench.state, bench.params)
    spared, _ = rounding(bench.step, *given)
    for number, seen, like in zip(range(_FALL), _falling(bench), _constant(bench), strict=False):
        what = f"update {number + 1} under a schedule that falls to zero at count {_FALL}"
        fail_if_far(what, seen, like, "with the constant", 1e-3, spared)


@check(
    requires=("factory", "learning_rate"),
    needs=(*STEP_IS_SOUND, "no_recompile"),
    unless=("no_schedule",),
    call="i = FACTORY(lambda count: 0.01 * (count < 1)); _, t = i.update(p, i.init(p), p); "
    "print(i.update(p, t, p)[0])",
    cause="the schedule is asked once, when the optimizer is built, or for a count that stands "
    "still; or one group of leaves got its first value, or is bounded by it",
    change="end the chain with optax.scale_by_learning_rate(lr), which asks it at every step",
)
def check_schedule_followed(bench: Bench) -> None:
    """A schedule that is accepted is followed: when it falls to zero at count 2, updates change.

    Held against every leaf whose update depends on the learning rate: it changes when the rate is
    ten times as large.
    """
    _require_schedules(bench)
    subject, constant, falling = bench.subject, _constant(bench), _falling(bench)
    large = subject.build(**{str(subject.rate_name): 10 * subject.rate_value})
    first, _ = bench.update(bench.grads, large.init(bench.params), bench.params, tx=large)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(constant[0]), strict=True)
    depends = [_changed(a, b) for a, b in pairs]
    for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(constant[-1])):
        pairs = [
            (jax.tree.leaves(a)[number], jax.tree.leaves(b)[number])
            for a, b in zip(falling, constant, strict=True)
        ]
        if depends[number] and np.any(host(leaf)) and not any(_changed(a, b) for a, b in pairs):
            raise CheckFailure(
                f"the schedule falls to zero at count {_FALL}, and {_STEPS} updates at {at(path)} "
                "are those of the constant"
            )


def _changed(one: Any, other: Any) -> bool:
    a, b = host(one), host(other)
    return bool(np.max(np.abs(a - b), initial=0.0) > _SEEN * np.max(np.abs(b), initial=0.0))


@check(
    requires=("factory", "learning_rate"),
    needs=(*STEP_IS_SOUND, "no_recompile"),
    unless=("no_schedule",),
    call="i = FACTORY(lambda count: 0.01 * (count > 0)); print(i.update(p, i.init(p), p))",
    cause="an average weighted by the learning rate, or a quantity divided by it, begins at 0 / 0",
    change="divide where the sum of the weights is positive: jnp.where on argument and result",
)
def check_warmup(bench: Bench) -> None:
    """Under a schedule that starts at zero, as a linear warmup does, some steps are finite."""
    _require_schedules(bench)
    value = bench.subject.rate_value
    for number, updates in enumerate(
        _updates_under(bench, lambda count: jnp.where(count > 0, value, 0.0)), 1
    ):
        fail_if_not_finite(f"update {number}", updates)
