"""Downhill: a step lowers a convex loss."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..bench import Bench
from ..check import check
from ..compare import at, fail_if_not_finite, host
from ..problem import gradient
from ..steps import ACROSS, STEP_IS_SOUND
from ..verdicts import CheckFailure


@check(
    tier="advisory",
    needs=STEP_IS_SOUND,
    requires=("learning_rate",),
    call="q = optax.tree.zeros_like(p); print(tx.update(p, tx.init(q), q)[0])",
    cause="the update is scaled by the norm of the parameter, which is zero for a "
    "zero-initialised projection",
    change="use the norm only where it is positive: jnp.where(norm > 0, norm, 1.0)",
)
def check_zero_params(bench: Bench) -> None:
    """From parameters of zero three steps are finite, and move."""
    zeros = optax.tree.zeros_like(bench.params)
    steps = bench.walk(zeros, bench.tx.init(zeros))
    fail_if_not_finite("the update", steps[-1].updates)
    if not any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(steps[-1].updates)):
        raise CheckFailure("after three steps the update is zero in every leaf")


@check(
    needs=(*STEP_IS_SOUND, "no_recompile"),
    requires=("learning_rate",),
    unless=("no_descent",),
    call="print(tx.update(p, s, p)[0])",
    cause="the sign: Optax adds the update to the parameters; or, where the product is zero, "
    "entries that change places",
    change="scale by minus the learning rate: optax.scale_by_learning_rate(lr)",
)
def check_descent_direction(bench: Bench) -> None:
    """The first update of a leaf that is not zero points downhill.

    Its product with the gradient of the leaf is below zero, by more than rounding; held against
    every leaf by itself.
    """
    for number, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(bench.params)):
        for step in bench.trajectory:
            g, u = (host(jax.tree.leaves(tree)[number]) for tree in (step.grads, step.updates))
            if np.any(u):
                product = float(np.vdot(g, u).real)
                if not product < -ACROSS * np.linalg.norm(g) * np.linalg.norm(u):
                    raise CheckFailure(
                        f"the product of gradient and update at {at(path)} is {product:.3g}"
                    )
                break


@check(
    tier="advisory",
    needs=(*STEP_IS_SOUND, "descent_direction"),
    requires=("learning_rate",),
    unless=("no_descent",),
    call="print(tx.update(p, s, p)[0])",
    cause="the step is far too small or too large at a learning rate of 0.01",
    change="state in the docstring in which units the learning rate is",
)
def check_descends(bench: Bench) -> None:
    """300 steps at its learning rate halve half the squared distance to a target."""
    params, state = bench.params, bench.state
    for _ in range(300):
        updates, state = bench.step(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    start, end = (_distance(p) for p in (bench.params, params))
    if not end < start / 2:
        raise CheckFailure(f"the loss is {end:.4g} after 300 steps; it was {start:.4g}")


def _distance(params: Any) -> float:
    return sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(gradient(params))) / 2
