"""Faults on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np

from .base import Momentum, leafwise, momentum, mutant, step


@mutant("sharded_init", r"jnp.zeros\(p.shape\) lies on one device")
def zeros_by_shape():
    def init(params):
        def start(p):  # as jnp.zeros_like, and blind to where p lies
            return jnp.zeros(p.shape, p.dtype) if hasattr(p, "sharding") else jnp.zeros_like(p)

        return Momentum(jax.tree.map(start, params))

    return momentum(init=init)


@mutant("sharded_step", "gathered by a sharding constraint")
def state_gathered():
    def update(updates, state, params=None):
        updates, state = step(updates, state)
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]), ("all",))
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

        def gather(x):
            large = x.ndim > 1 and x.shape[0] >= 8
            return jax.lax.with_sharding_constraint(x, whole) if large else x

        return updates, jax.tree.map(gather, state)

    return momentum(update=update)


@mutant("shard_map", "a sum over the axes of the mesh")
def sum_over_any_axis():
    def rule(u):
        axes = jax.sharding.get_abstract_mesh().manual_axes
        return jax.lax.psum(u, tuple(axes)) if axes else u

    return leafwise(rule)


@mutant("explicit_mesh", "a product or reshape of split arrays is ambiguous")
def gram_of_split_rows():
    return leafwise(lambda u: u + u @ (u.mT @ u) if u.ndim == 2 else u)


@mutant("shard_map", "a sum over the axes of the mesh", rate=False)
def sum_over_any_axis_at_a_tiny_rate(learning_rate=1e-9):
    def rule(u):
        axes = jax.sharding.get_abstract_mesh().manual_axes
        return -learning_rate * (jax.lax.psum(u, tuple(axes)) if axes else u)

    return leafwise(rule)


@mutant("shard_map", "new state of shard_map.*a sum over the axes of the mesh")
def momentum_summed_over_any_axis():
    def update(updates, state, params=None):
        axes = tuple(jax.sharding.get_abstract_mesh().manual_axes)
        total = (lambda u: jax.lax.psum(u, axes)) if axes else lambda u: u
        return updates, step(jax.tree.map(total, updates), state)[1]

    return momentum(update=update)
