"""Parameter trees with unusual leaves."""

import jax
import jax.numpy as jnp
import optax

from ..bench import (
    Bench,
    fail_if_not_finite,
    fail_if_structure_differs,
    gradient,
    sample,
)
from ..registry import check
from ..verdicts import CheckFailure


@check(
    phase="abstract",
    call='p = {"w": jnp.ones((4, 3)), "b": None}; s = tx.init(p); print(tx.update(p, s, p)[0])',
    cause="leaves are visited with is_leaf=lambda x: x is None, or the tree is flattened by hand; "
    "equinox models and frozen parameters bring None",
    change="visit leaves with jax.tree.map alone: it passes over None",
)
def check_none_leaf(bench: Bench) -> None:
    """A None among the parameters stays None in the updates."""
    bench.require_own_trees()
    params = sample({"kernel": (4, 3), "bias": (3,)}) | {"frozen": None}
    updates, _ = jax.eval_shape(lambda p: bench.update(p, bench.tx.init(p), p), params)
    fail_if_structure_differs("the update", updates, params, "the parameters")


@check(
    call='m = optax.masked(tx, {"w": True, "b": False}); print(m.update(p, m.init(p), p)[0])',
    cause="`update` pairs leaves by position, or expects an array where optax.MaskedNode stands",
    change="visit updates, state and params together, with one jax.tree.map",
)
def check_masked(bench: Bench) -> None:
    """Under `optax.masked` the masked leaf is returned unchanged, and the rest is finite."""
    bench.require_own_trees()
    params = sample({"kernel": (4, 3), "bias": (3,)})
    grads = gradient(params)
    tx = optax.masked(bench.tx, {"kernel": True, "bias": False})
    updates, _ = jax.jit(lambda g, p: bench.update(g, tx.init(p), p, tx=tx))(grads, params)
    fail_if_structure_differs("the update", updates, params, "the parameters")
    fail_if_not_finite("the update", updates)
    if not bool(jnp.array_equal(updates["bias"], grads["bias"])):
        raise CheckFailure(
            f"the update at ['bias'] is {updates['bias']}; its gradient is {grads['bias']}"
        )
