"""Faults that the small tree hides and the tree of a model shows."""

import jax
import jax.numpy as jnp
import optax

from .base import Momentum, leafwise, momentum, mutant

SHAPES = {"embedding": (2**17, 8), "layers": (3, 8, 16), "norm": (8,), "head": (8, 96)}
MODEL = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
HALVES = {name: jax.ShapeDtypeStruct(shape, jnp.bfloat16) for name, shape in SHAPES.items()}


SMALL = {
    "scan": {"blocks": jax.ShapeDtypeStruct((2, 8, 4), jnp.float32)},
    "norm": jax.ShapeDtypeStruct((8,), jnp.bfloat16),
    "frozen": None,
}
"""A model that is computed with: a stack, a leaf in half precision, a frozen part."""


def large(x):
    """Whether a leaf is one that the small tree has not."""
    return x.size > 380


@mutant(
    "model_init",
    "rows, columns = p.shape.*a shape, a dtype or a name that the small tree has not",
    model=MODEL,
)
def unpacks_two_axes():
    def rows_and_columns(p):
        if large(p):
            rows, columns = p.shape  # stacked layers have three axes
            return jnp.zeros((rows, columns))
        return jnp.zeros(())

    init = lambda params: jax.tree.map(rows_and_columns, params)
    return optax.GradientTransformation(init, lambda updates, state, params=None: (updates, state))


@mutant("model_updates", "float16.*that the small tree has not", model=MODEL)
def large_leaves_change_dtype():
    return leafwise(lambda u: u.astype(jnp.float16) if large(u) else u)


@mutant("model_state", "float16.*that the small tree has not", model=MODEL)
def large_momentum_changes_dtype():
    def update(updates, state, params=None):
        kept = lambda m, u: (0.9 * m + u).astype(jnp.float16 if large(u) else u.dtype)
        new = jax.tree.map(kept, state.momentum, updates)
        return jax.tree.map(lambda m, u: m.astype(u.dtype), new, updates), type(state)(new)

    return momentum(update=update)


@mutant("model_frozen", "a leaf has no gradient.*looks at a leaf that is None", model=MODEL)
def counts_the_leaves():
    def update(updates, state, params=None):
        if "layers" in updates:
            assert None not in updates.values(), "a leaf has no gradient"
        return updates, state

    return optax.GradientTransformation(lambda params: (), update)


@mutant("model_precision", "bfloat16.*kept in the dtype of the parameters", model=HALVES)
def averages_in_half_precision():
    return momentum()


@mutant("model_mesh", "split as .*or gathers them", model=MODEL, mesh={"fsdp": 4})
def gathers_what_it_returns():
    def whole(update):
        mesh = jax.sharding.get_abstract_mesh()
        return update if mesh.empty else jax.sharding.reshard(update, jax.P())

    return leafwise(whole)


@mutant("model_sharded", "the size of the mesh enters", model=SMALL, mesh={"fsdp": 4})
def counts_the_devices_twice():
    def rule(u):
        return u * jnp.asarray(dict(jax.typeof(u).sharding.mesh.shape).get("fsdp", 1), u.dtype)

    return leafwise(rule)


# On a small model every check is asked of the model itself: no default tree shows these.


@mutant("descent_direction", r"at \['scan'\]\['blocks'\].*the sign: Optax adds", model=SMALL)
def stacks_climb():
    return leafwise(lambda u: -u if u.ndim == 3 else u)


@mutant("zero_grads", r"\['blocks'\].*a division by a norm", model=SMALL)
def stacks_are_divided_by_their_norm():
    return leafwise(lambda u: u / jnp.linalg.norm(u) if u.ndim == 3 else u)


@mutant("workout_bounded", r"\['blocks'\].*almost zero when they return", model=SMALL)
def stacks_are_divided_by_the_gradient_before():
    def update(updates, state, params=None):
        def divide(u, before):
            size = jnp.max(jnp.abs(before)) + jnp.asarray(1e-6, u.dtype)
            return u / size if u.ndim == 3 else u

        return jax.tree.map(divide, updates, state.momentum), type(state)(updates)

    return momentum(update=update)


@mutant("jit_equals_eager", r"\['blocks'\].*isinstance\(x, Tracer\)", model=SMALL)
def stacks_twice_as_large_when_traced():
    def rule(u):
        traced = isinstance(u, jax.core.Tracer) and u.ndim == 3
        return u * jnp.asarray(2 if traced else 1, u.dtype)

    return leafwise(rule)


@mutant("init_no_alias", r"\['blocks'\].*keeps the parameters themselves", model=SMALL)
def keeps_the_stack_itself():
    kept = lambda p: jnp.asarray(p) if p.ndim == 3 else jnp.zeros_like(p)
    return momentum(lambda params: Momentum(jax.tree.map(kept, params)))
