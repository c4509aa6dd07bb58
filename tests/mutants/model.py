"""Faults that the small tree hides and the tree of a model shows."""

import jax
import jax.numpy as jnp
import optax

from .base import leafwise, momentum, mutant

SHAPES = {"embedding": (96, 8), "layers": (3, 8, 16), "norm": (8,), "head": (8, 96)}
MODEL = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
HALVES = {name: jax.ShapeDtypeStruct(shape, jnp.bfloat16) for name, shape in SHAPES.items()}


def large(x):
    """Whether a leaf is one that the small tree has not."""
    return x.size > 380


@mutant("model_init", model=MODEL)
def unpacks_two_axes():
    def rows_and_columns(p):
        if large(p):
            rows, columns = p.shape  # stacked layers have three axes
            return jnp.zeros((rows, columns))
        return jnp.zeros(())

    init = lambda params: jax.tree.map(rows_and_columns, params)
    return optax.GradientTransformation(init, lambda updates, state, params=None: (updates, state))


@mutant("model_updates", model=MODEL)
def large_leaves_change_dtype():
    return leafwise(lambda u: u.astype(jnp.float16) if large(u) else u)


@mutant("model_state", model=MODEL)
def large_momentum_changes_dtype():
    def update(updates, state, params=None):
        kept = lambda m, u: (0.9 * m + u).astype(jnp.float16 if large(u) else u.dtype)
        new = jax.tree.map(kept, state.momentum, updates)
        return jax.tree.map(lambda m, u: m.astype(u.dtype), new, updates), type(state)(new)

    return momentum(update=update)


@mutant("model_frozen", model=MODEL)
def counts_the_leaves():
    def update(updates, state, params=None):
        if "layers" in updates:
            assert None not in updates.values(), "a leaf has no gradient"
        return updates, state

    return optax.GradientTransformation(lambda params: (), update)


@mutant("model_precision", model=HALVES)
def averages_in_half_precision():
    return momentum()


@mutant("model_mesh", model=MODEL, mesh={"fsdp": 4})
def gathers_what_it_returns():
    def whole(update):
        mesh = jax.sharding.get_abstract_mesh()
        return update if mesh.empty else jax.sharding.reshard(update, jax.P())

    return leafwise(whole)
