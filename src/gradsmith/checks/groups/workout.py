"""Many steps on leaves of many shapes: wide, tall, stacked, on both sides of 128 and 256.

Thirty-two steps with changing gradients, which vanish for three steps, return, and come twice ten
thousand times as large; and sixty-four steps down a strictly convex bowl. All of it is one
compilation.
"""

import dataclasses

import jax
import numpy as np

from ..bench import Bench
from ..check import check
from ..compare import at
from ..steps import ACROSS, STEP_IS_SOUND
from ..verdicts import CheckFailure
from ..workout import Sizes, Workout, workouts_of

_NEEDS = (*STEP_IS_SOUND, "no_recompile", "zero_grads", "scalar_leaf", "singleton_dims", "rank34")
_ROOM = 1e4
_LARGE = 'p = {"w": jnp.ones((130, 264)), "b": jnp.ones(300)}; s = tx.init(p); '


@check(
    needs=_NEEDS,
    call=f"{_LARGE}print(tx.update(p, s, p))",
    cause="large or stacked leaves take another branch (a factored moment, a block, a padded "
    "shape), or a step that comes seldom (a refresh) divides by what is zero by then",
    change="guard that branch as the other: eps in the denominator, clipped eigenvalues",
)
def check_workout_finite(bench: Bench) -> None:
    """After every step of the exercise updates and state are finite, in every leaf."""
    taken = [workout.exercise for workout in workouts_of(bench)]
    trees = [(what, getattr(sizes, what)) for sizes in taken for what in ("update", "state")]
    for what, tree in trees:
        for path, largest in jax.tree_util.tree_leaves_with_path(tree):
            if not np.all(np.isfinite(largest)):
                number = int(np.argmin(np.isfinite(largest)))
                raise CheckFailure(
                    f"after step {number + 1} the {what} at {at(path)} has entries not finite"
                )


@check(
    needs=(*_NEEDS, "workout_finite"),
    call=f"{_LARGE}f = jax.jit(tx.update); [s := f(jax.tree.map(lambda x: k * x, p), s, p)[1] "
    "for k in [1, 0, 0, 0]]; print(f(p, s, p)[0])",
    cause="a denominator decays while gradients are zero, and is almost zero when they return; or "
    "an accumulator grows from step to step; or the size of a leaf enters",
    change="add eps to the denominator, and correct averages for their start",
)
def check_workout_bounded(bench: Bench) -> None:
    """No update of the exercise is 10,000 times the rate times the largest gradient so far.

    Gradients have size one, so at a rate of 0.01 the bound is an update of 100. Where no rate is
    known it is taken for one.
    """
    for workout in workouts_of(bench):
        _fail_if_unbounded(bench, workout.exercise)


def _fail_if_unbounded(bench: Bench, sizes: Sizes) -> None:
    rate = bench.subject.stated_rate or 1.0
    gradients = np.max([*jax.tree.leaves(sizes.gradient)], axis=0)
    bound = _ROOM * rate * np.maximum.accumulate(gradients)
    for path, largest in jax.tree_util.tree_leaves_with_path(sizes.update):
        if np.any(largest > bound):
            number = int(np.argmax(largest > bound))
            raise CheckFailure(
                f"update {number + 1} at {at(path)} has an entry of {largest[number]:.3g}; the "
                f"largest gradient so far is {gradients[: number + 1].max():.3g}, the rate {rate:g}"
            )


@check(
    needs=(*_NEEDS, "workout_finite", "descent_direction"),
    requires=("learning_rate",),
    unless=("no_descent",),
    call=f"{_LARGE}print(tx.update(p, s, p)[0])",
    cause="one kind of leaf (large, stacked, a bias) gets the wrong sign, or the sign changes "
    "after some steps",
    change="scale every leaf by minus the learning rate: optax.scale_by_learning_rate(lr) for all",
)
def check_leaves_descend(bench: Bench) -> None:
    """Each leaf descends a strictly convex bowl.

    The first update that is not zero points downhill, and after sixty-four steps the leaf is nearer
    to the bottom. A leaf that is further away gets a second chance at a hundredth of the rate. A
    leaf that never moves is no matter of this check. Of a leaf in half precision, and of one whose
    steps are too small for its numbers, the first update is looked at alone.
    """
    subject = bench.subject
    for workout in workouts_of(bench):
        climbing = _first_that_climbs(workout)
        if climbing and subject.is_factory:
            arguments = {**subject.call_arguments, str(subject.rate_name): subject.rate_value / 100}
            slower = Bench(dataclasses.replace(subject, arguments=arguments))
            climbing = _first_that_climbs(Workout(slower, workout.params)) and climbing
        if climbing:
            raise CheckFailure(climbing)


def _first_that_climbs(workout: Workout) -> str:
    """What is wrong with the first leaf that goes uphill; empty when none does."""
    sizes = workout.descent
    for number, (path, update) in enumerate(jax.tree_util.tree_leaves_with_path(sizes.update)):
        moved = np.flatnonzero(update)
        if not moved.size:
            continue
        cosine, distance = (
            jax.tree.leaves(tree)[number] for tree in (sizes.cosine, sizes.distance)
        )
        if not cosine[moved[0]] < -ACROSS:
            return f"the cosine of gradient and update at {at(path)} is {cosine[moved[0]]:.3g}"
        half = jax.tree.leaves(workout.params)[number].dtype.itemsize < 4
        stays = np.all(distance == distance[0])
        if not stays and not half and not distance[-1] < distance[0]:
            return (
                f"the leaf at {at(path)} is {distance[-1]:.4g} from the bottom after "
                f"{len(distance) - 1} steps; it was {distance[0]:.4g}"
            )
    return ""


@check(
    tier="advisory",
    needs=(*_NEEDS, "workout_finite"),
    call=f"{_LARGE}print(tx.update(p, s, p)[0])",
    cause="one kind of leaf falls through all branches, or is frozen on purpose",
    change="if it is not on purpose, give the leaf the update that leaves of its kind get",
)
def check_leaves_move(bench: Bench) -> None:
    """No leaf gets an update of zero in all steps of the exercise."""
    updates = [workout.exercise.update for workout in workouts_of(bench)]
    for (_, *path), largest in jax.tree_util.tree_leaves_with_path(updates):
        if not np.any(largest):
            raise CheckFailure(f"the update at {at(tuple(path))} is zero in every step")
