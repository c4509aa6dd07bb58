"""Faults that jit, scan, vmap and donation show."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .base import Momentum, leafwise, momentum, mutant, step, zeros


@mutant("scan_carry", r"an `if`, float\(\), int\(\), np.asarray")
def numpy_where_gradients_are_concrete():
    def update(updates, state, params=None):
        traced = any(isinstance(u, jax.core.Tracer) for u in jax.tree.leaves(updates))
        lib = jnp if traced else np
        momentum = jax.tree.map(lambda m, u: 0.9 * lib.asarray(m) + u, state.momentum, updates)
        return momentum, Momentum(momentum)

    return momentum(update=update)


@mutant("init_abstract", r"float\(\)")
def init_looks_at_values():
    def init(params):
        scale = float(np.sum(np.asarray(jax.tree.leaves(params)[0])))
        return Momentum(jax.tree.map(lambda p: jnp.zeros_like(p) * scale, params))

    return momentum(init=init)


@mutant("no_captured_constants", r"float32\[1000\].*an array made outside `update`")
def table_in_the_closure():
    table = jnp.arange(1000.0)
    return leafwise(lambda u: u * table[1].astype(u.dtype))


@mutant("no_captured_constants", r"float32\[1000\].*an array made outside `update`")
def table_in_a_nested_jit():
    table = jnp.arange(1000.0)
    return leafwise(jax.jit(lambda u: u * table[1].astype(u.dtype)))


@mutant("no_captured_constants", r"float32\[1000\].*an array made outside `update`")
def table_of_numpy_in_a_branch():
    table = np.arange(1000.0, dtype=np.float32)

    @jax.jit
    def rule(u):
        return jax.lax.cond(
            u.size > 0, lambda x: x * jnp.asarray(table)[1].astype(u.dtype), lambda x: x, u
        )

    return leafwise(rule)


@mutant("no_captured_constants", r"float32\[4,3\].*an array made outside `update`")
def one_number_for_each_entry_of_a_parameter():
    mask = np.tri(4, 3, dtype=np.float32)
    return leafwise(jax.jit(lambda u: u * (mask.astype(u.dtype) if u.shape == (4, 3) else 1)))


@mutant("no_callbacks", "a jax.debug.print or a host callback")
def debug_print_left_in():
    def rule(u):
        jax.debug.callback(lambda x: None, u)
        return u

    return leafwise(rule)


@mutant("no_callbacks", "pure_callback.*a host callback")
def numpy_called_inside_a_scan():
    def double(x):
        return np.asarray(2 * x)

    def body(u, _):
        return jax.pure_callback(double, jax.typeof(u), u, vmap_method="sequential"), None

    return leafwise(lambda u: jax.lax.scan(body, u, length=1)[0])


@mutant("no_leaked_tracers", "kept in Python: an attribute, a global, a list")
def last_update_kept():
    kept = []

    def rule(u):
        kept.append(u * 2)
        return u

    return leafwise(rule)


@mutant("no_recompile", "changes a setting of JAX")
def precision_switched_by_update():
    precisions = itertools.cycle(["highest", "float32", "default"])

    def rule(u):
        jax.config.update("jax_default_matmul_precision", next(precisions))
        return u

    return leafwise(rule)


@mutant("jit_equals_eager", r"isinstance\(x, Tracer\)")
def another_rule_when_traced():
    return leafwise(lambda u: u * (1.0 if isinstance(u, jax.core.Tracer) else 2.0))


@mutant("init_jit_equals_eager", "asks whether they are traced")
def another_start_when_traced():
    def init(params):
        traced = isinstance(jax.tree.leaves(params)[0], jax.core.Tracer)
        return Momentum(jax.tree.map(jnp.ones_like if traced else jnp.zeros_like, params))

    return momentum(init=init)


@mutant("vmap", "update of lane .*a rule for batches")
def wrong_rule_for_batches():
    @jax.custom_batching.custom_vmap
    def double(u):
        return 2 * u

    @double.def_vmap
    def _(size, batched, u):
        return 3 * u, True

    return leafwise(double)


@mutant("no_implicit_transfer", "the state holds numpy arrays")
def numpy_state():
    def init(params):
        return Momentum(jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), params))

    return momentum(init=init)


@mutant("init_no_alias", "the same buffer as the parameter.*keeps the parameters themselves")
def params_kept_in_the_state():
    return momentum(init=lambda params: Momentum(jax.tree.map(jnp.asarray, params)))


@mutant("init_no_alias", "one array in two places of the state")
def one_array_in_two_places():
    def init(params):
        start = zeros(params).momentum
        return {"fast": start, "slow": start}

    return momentum(init, lambda u, s, params=None: (u, s))


@mutant("donate", "an array that was made once, in the factory")
def one_key_for_all_states():
    key = jax.random.PRNGKey(0)
    return momentum(lambda params: {"key": key}, lambda u, s, params=None: (u, s))


def traced(tree):
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def scaled(tree, factor):
    return jax.tree.map(lambda x: x * jnp.asarray(factor, x.dtype), tree)


@mutant("jit_equals_eager", r"new state of a compiled step at .*momentum.*isinstance\(x, Tracer\)")
def momentum_five_times_too_large_when_traced():
    def update(updates, state, params=None):
        return updates, Momentum(scaled(step(updates, state)[0], 5 if traced(updates) else 1))

    return momentum(update=update)


@mutant(
    "jit_equals_eager", r"new state of a compiled step at .*\['count'\].*isinstance\(x, Tracer\)"
)
def counts_by_two_when_traced():
    def update(updates, state, params=None):
        return updates, {"count": state["count"] + jnp.int32(2 if traced(updates) else 1)}

    return optax.GradientTransformation(lambda params: {"count": jnp.zeros((), jnp.int32)}, update)


def _tiny(factor, learning_rate):
    """Descent by a rate of 1e-9, times a factor when traced."""
    rule = lambda updates, params: scaled(
        updates, -learning_rate * (factor if traced(updates) else 1)
    )
    return optax.stateless(rule)


@mutant("jit_equals_eager", r"update of a compiled step.*isinstance\(x, Tracer\)", rate=False)
def seven_times_too_large_when_traced_at_a_tiny_rate(learning_rate=1e-9):
    return _tiny(7, learning_rate)


@mutant("jit_equals_eager", r"update of a compiled step.*isinstance\(x, Tracer\)", rate=False)
def uphill_when_traced_at_a_tiny_rate(learning_rate=1e-9):
    return _tiny(-1, learning_rate)


@mutant("jit_equals_eager", r"update of a compiled step.*isinstance\(x, Tracer\)", rate=False)
def first_steps_of_an_estimated_rate(learning_rate=1.0):
    """As D-Adaptation: the rate starts at 1e-8; traced, the first ones are ten times as large."""

    def update(updates, state, params=None):
        rate = state["rate"] * (10 if traced(updates) else 1)
        new = {"rate": state["rate"] * 1.1}
        return jax.tree.map(lambda u: -learning_rate * rate.astype(u.dtype) * u, updates), new

    init = lambda params: {"rate": jnp.full((), 1e-8, jnp.float32)}
    return optax.GradientTransformation(init, update)


@mutant("vmap", "new state of lane .*a rule for batches")
def wrong_momentum_for_batches():
    @jax.custom_batching.custom_vmap
    def accumulate(m, u):
        return 0.9 * m + u

    @accumulate.def_vmap
    def _(size, batched, m, u):
        return 0.5 * m + u, True

    def update(updates, state, params=None):
        return updates, Momentum(jax.tree.map(accumulate, state.momentum, updates))

    return momentum(update=update)


@mutant("vmap", "fresh state of lane .*a rule for batches")
def another_start_for_batches():
    @jax.custom_batching.custom_vmap
    def start(p):
        return jnp.zeros_like(p)

    @start.def_vmap
    def _(size, batched, p):
        return jnp.ones_like(p), True

    return momentum(init=lambda params: Momentum(jax.tree.map(start, params)))


@mutant("vmap", "update of lane .*a rule for batches", rate=False)
def mean_over_the_batch_at_a_tiny_rate(learning_rate=1e-9):
    @jax.custom_batching.custom_vmap
    def rule(u):
        return -learning_rate * u

    @rule.def_vmap
    def _(size, batched, u):
        return jnp.broadcast_to(-learning_rate * u.mean(0), u.shape), True

    return optax.stateless(lambda updates, params: jax.tree.map(rule, updates))


@mutant("scan_equals_loop", "Python counts calls")
def larger_at_every_trace():
    calls = itertools.count(1)
    return momentum(update=lambda u, s, params=None: (u, step(scaled(u, next(calls)), s)[1]))


@mutant("init_jit_equals_eager", "asks whether they are traced")
def a_tiny_start_is_doubled_when_traced():
    def init(params):
        number = 1e-8 * (2 if traced(params) else 1)
        return Momentum(jax.tree.map(lambda p: jnp.full_like(p, number), params))

    return momentum(init=init)
