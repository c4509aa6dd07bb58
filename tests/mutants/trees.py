"""Faults that unusual leaves and containers show."""

import jax
import jax.numpy as jnp
import optax

from .base import leafwise, mutant, scaled_inside


@mutant("none_leaf", "NoneType.*visited with is_leaf=lambda x: x is None")
def none_is_a_leaf():
    return optax.stateless(
        lambda u, p: jax.tree.map(lambda x: x * 1.0, u, is_leaf=lambda x: x is None)
    )


@mutant("masknode_leaf", "a MaskedNode is an empty tuple")
def masknode_is_a_leaf():
    return optax.stateless(
        lambda u, p: jax.tree.map(
            lambda x: x * 1.0, u, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
        )
    )


@mutant("scalar_leaf", "assumes one dimension at least")
def last_axis_assumed():
    return leafwise(lambda u: u - 0.1 * jnp.mean(u, axis=-1, keepdims=True))


@mutant("singleton_dims", "jnp.squeeze")
def squeezed():
    return leafwise(lambda u: jnp.squeeze(u) * 1.0)


@mutant("containers", "takes a tuple for a leaf")
def tuple_is_a_leaf():
    return optax.stateless(
        lambda u, p: jax.tree.map(lambda x: x * 1.0, u, is_leaf=lambda x: type(x) is tuple)
    )


@mutant("bare_array", "a path that is not empty")
def path_assumed():
    def rule(path, u):
        return u * (0.5 if path[-1] is None else 1.0)

    return optax.stateless(lambda u, p: jax.tree_util.tree_map_with_path(rule, u))


@mutant("rank34", "refused without a ValueError")
def ranks_above_two_refused():
    def rule(u):
        assert u.ndim <= 2
        return u

    return leafwise(rule)


@mutant("zero_size_leaf", "a mean or maximum over nothing")
def largest_of_nothing():
    return leafwise(lambda u: u / (1 + jnp.max(jnp.abs(u))))


@mutant("empty_tree", "jnp.stack or functools.reduce over the leaves, of which there are none")
def stack_of_nothing():
    def update(updates, params):
        total = jnp.stack([jnp.sum(u).astype(jnp.float32) for u in jax.tree.leaves(updates)])
        return jax.tree.map(lambda u: u + 0 * total[0].astype(u.dtype), updates)

    return optax.stateless(update)


@mutant("container_invariance", "chosen by their name")
def bias_by_name_in_a_nested_jit():
    def rule(path, u):
        return scaled_inside(0.5 if "bias" in jax.tree_util.keystr(path) else 1.0)(u)

    return optax.stateless(lambda u, p: jax.tree_util.tree_map_with_path(rule, u))


@mutant("container_invariance", "chosen by their name")
def bias_by_name():
    def rule(path, u):
        return u * (0.5 if "bias" in jax.tree_util.keystr(path) else 1.0)

    return optax.stateless(lambda u, p: jax.tree_util.tree_map_with_path(rule, u))


def _first_leaf_decides():
    def update(updates, params):
        leaves = jax.tree.leaves(updates, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
        return jax.tree.map(lambda u: u.astype(u.dtype) + 0 * leaves[0].size, updates)

    return optax.stateless(update)


@mutant("masked", "MaskedNode.*asks a leaf that is masked")
def first_leaf_decides():
    return _first_leaf_decides()


@mutant("partition", "MaskedNode.*asks params for leaves that are masked")
def first_leaf_decides_in_a_group():
    return _first_leaf_decides()
