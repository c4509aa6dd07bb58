"""Optimizers with one fault each, and the check that must find it. `kill_matrix.py` runs them all.

All are small: a rule for one leaf, or momentum with one thing changed, in front of a learning rate.
"""

import collections
import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradsmith.checks import Subject


class Mutant(NamedTuple):
    """A faulty subject and the name of the check that must fail on it."""

    check: str
    subject: Subject


MUTANTS: list[Mutant] = []


def mutant(check: str, rate: bool = True, **declared: Any) -> Callable:
    """List a function without arguments that returns a transformation; a rate is put behind it."""

    def register(make: Callable[[], Any]) -> Callable:
        def factory(learning_rate=0.01):
            return optax.chain(make(), optax.scale_by_learning_rate(learning_rate))

        name = make.__name__.replace("_", " ")
        MUTANTS.append(Mutant(check, Subject(name, factory if rate else make, **declared)))
        return make

    return register


class Momentum(NamedTuple):
    momentum: Any


def leafwise(rule: Callable) -> optax.GradientTransformation:
    """Without state: the rule on every leaf."""
    return optax.stateless(lambda updates, params: jax.tree.map(rule, updates))


def zeros(params):
    return Momentum(jax.tree.map(jnp.zeros_like, params))


def step(updates, state, params=None):
    momentum = jax.tree.map(lambda m, u: 0.9 * m + u, state.momentum, updates)
    return momentum, Momentum(momentum)


def momentum(init=zeros, update=step) -> optax.GradientTransformation:
    return optax.GradientTransformation(init, update)


def unless_called_from(function: str, file: str = "") -> Any:
    """Momentum that stops when a function of this name is on the call stack."""

    def update(updates, state, params=None):
        here = any(f.function == function and file in f.filename for f in inspect.stack(0)[1:])
        updates, state = step(updates, state)
        return jax.tree.map(lambda u: u * (0.0 if here else 1.0), updates), state

    return momentum(update=update)


# Contract.


@mutant("is_transformation", rate=False)
def two_functions_in_a_tuple():
    return zeros, step


@mutant("update_signature", rate=False)
def no_params():
    return momentum(update=lambda updates, state: step(updates, state))


@mutant("update_signature", rate=False)
def another_name_for_params():
    return momentum(update=lambda updates, state, weights=None: step(updates, state))


@mutant("params_default")
def params_without_default():
    return momentum(update=lambda updates, state, params: step(updates, state))


@mutant("core_runs")
def three_values():
    return momentum(update=lambda updates, state, params=None: (*step(updates, state), 0))


@mutant("updates_like_params")
def half_precision_updates():
    return leafwise(lambda u: u.astype(jnp.float16))


@mutant("updates_like_params")
def row_means():
    return leafwise(lambda u: u.mean(axis=-1))


@mutant("state_leaves_are_arrays")
def python_counter():
    return optax.GradientTransformation(
        lambda params: {"count": 0}, lambda u, s, params=None: (u, s)
    )


@mutant("state_stable")
def state_widens():
    def init(params):
        return Momentum(jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.bfloat16), params))

    return momentum(init=init)


@mutant("state_stable")
def weakly_typed_counter():
    return optax.GradientTransformation(
        lambda params: {"scale": jnp.asarray(1.0)},
        lambda u, s, params=None: (u, {"scale": s["scale"] * np.float32(0.9)}),
    )


@mutant("extra_args_ignored", rate=False)
def strangers_rejected():
    def update(updates, state, params=None, *, value=0.0):
        return step(updates, state)

    return optax.GradientTransformationExtraArgs(zeros, update)


@mutant("params_optional")
def params_without_need():
    return optax.stateless(lambda u, p: jax.tree.map(lambda x, y: x + 0 * y, u, p))


@mutant("inputs_not_mutated")
def state_written_in_place():
    def update(updates, state, params=None):
        state["momentum"] = jax.tree.map(lambda m, u: 0.9 * m + u, state["momentum"], updates)
        return updates, state

    return momentum(init=lambda params: {"momentum": zeros(params).momentum}, update=update)


@mutant("pure")
def counter_in_the_closure():
    calls = itertools.count(1)
    return leafwise(lambda u: u / next(calls))


@mutant("deterministic_instances")
def every_instance_its_own_scale(scales=itertools.count(1)):  # noqa: B008
    scale = next(scales)
    return leafwise(lambda u: u / scale)


@mutant("two_models")
def size_remembered_in_the_closure():
    memory = {}

    def init(params):
        memory["size"] = len(jax.tree.leaves(params)) + sum(x.size for x in jax.tree.leaves(params))
        return zeros(params)

    def update(updates, state, params=None):
        updates, state = step(updates, state)
        return jax.tree.map(lambda u: u / memory["size"], updates), state

    return momentum(init, update)


@mutant("chain", rate=False)
def stops_in_a_chain():
    return unless_called_from("update_fn", "_combining")


@mutant("state_moves")
def old_state_returned():
    return momentum(update=lambda updates, state, params=None: (step(updates, state)[0], state))


@mutant("state_moves")
def second_moment_dropped():
    def init(params):
        return {"first": zeros(params), "second": zeros(params)}

    def update(updates, state, params=None):
        updates, first = step(updates, state["first"])
        return updates, {"first": first, "second": state["second"]}

    return momentum(init, update)


@mutant("numpy_inputs")
def scaled_in_place():
    def rule(u):
        u *= 0.5
        return u

    return leafwise(rule)


# Compilation.


@mutant("scan_carry")
def numpy_where_gradients_are_concrete():
    def update(updates, state, params=None):
        traced = any(isinstance(u, jax.core.Tracer) for u in jax.tree.leaves(updates))
        lib = jnp if traced else np
        momentum = jax.tree.map(lambda m, u: 0.9 * lib.asarray(m) + u, state.momentum, updates)
        return momentum, Momentum(momentum)

    return momentum(update=update)


@mutant("init_abstract")
def init_looks_at_values():
    def init(params):
        scale = float(np.sum(np.asarray(jax.tree.leaves(params)[0])))
        return Momentum(jax.tree.map(lambda p: jnp.zeros_like(p) * scale, params))

    return momentum(init=init)


@mutant("no_captured_constants")
def table_in_the_closure():
    table = jnp.arange(1000.0)
    return leafwise(lambda u: u * table[1].astype(u.dtype))


@mutant("no_callbacks")
def debug_print_left_in():
    def rule(u):
        jax.debug.callback(lambda x: None, u)
        return u

    return leafwise(rule)


@mutant("no_leaked_tracers")
def last_update_kept():
    kept = []

    def rule(u):
        kept.append(u * 2)
        return u

    return leafwise(rule)


@mutant("no_recompile")
def precision_switched_by_update():
    precisions = itertools.cycle(["highest", "float32", "default"])

    def rule(u):
        jax.config.update("jax_default_matmul_precision", next(precisions))
        return u

    return leafwise(rule)


@mutant("jit_equals_eager")
def another_rule_when_traced():
    return leafwise(lambda u: u * (1.0 if isinstance(u, jax.core.Tracer) else 2.0))


@mutant("init_jit_equals_eager")
def another_start_when_traced():
    def init(params):
        traced = isinstance(jax.tree.leaves(params)[0], jax.core.Tracer)
        return Momentum(jax.tree.map(jnp.ones_like if traced else jnp.zeros_like, params))

    return momentum(init=init)


@mutant("vmap")
def wrong_rule_for_batches():
    @jax.custom_batching.custom_vmap
    def double(u):
        return 2 * u

    @double.def_vmap
    def _(size, batched, u):
        return 3 * u, True

    return leafwise(double)


@mutant("no_implicit_transfer")
def numpy_state():
    def init(params):
        return Momentum(jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), params))

    return momentum(init=init)


@mutant("init_no_alias")
def params_kept_in_the_state():
    return momentum(init=lambda params: Momentum(jax.tree.map(jnp.asarray, params)))


@mutant("init_no_alias")
def one_array_in_two_places():
    def init(params):
        start = zeros(params).momentum
        return {"fast": start, "slow": start}

    return momentum(init, lambda u, s, params=None: (u, s))


@mutant("donate")
def one_key_for_all_states():
    key = jax.random.PRNGKey(0)
    return momentum(lambda params: {"key": key}, lambda u, s, params=None: (u, s))


# Numbers.


@mutant("zero_grads")
def divides_by_its_norm():
    return leafwise(lambda u: u / jnp.sqrt(jnp.sum(u * u)))


@mutant("one_zero_leaf")
def ratio_of_norms():
    def update(updates, params):
        total = optax.tree.norm(updates)

        def rule(u):
            ratio = (total / jnp.sqrt(jnp.sum(u * u))).astype(u.dtype)
            return jnp.where(total > 0, u * ratio, u)

        return jax.tree.map(rule, updates)

    return optax.stateless(update)


@mutant("rank_one_grads")
def roots_of_rounded_eigenvalues():
    def rule(u):
        if u.ndim < 2:
            return u
        values, vectors = jnp.linalg.eigh(u.mT @ u + 1e-12 * jnp.eye(u.shape[-1], dtype=u.dtype))
        return u @ (vectors / jnp.sqrt(values)[..., None, :]) @ vectors.mT

    return leafwise(rule)


@mutant("huge_grads")
def fourth_powers():
    def rule(u):
        fourth = jnp.mean(u * u * u * u) ** 0.25
        return u * (fourth + 1e-8) / (fourth + 1e-8)

    return leafwise(rule)


@mutant("tiny_grads")
def squares_that_underflow():
    return leafwise(lambda u: jnp.where(u == 0, 0.0, u / jnp.sqrt(jnp.sum(u * u))))


@mutant("overflow_recovers")
def second_moment():
    return optax.scale_by_rms()


@mutant("bf16")
def float32_joins():
    return leafwise(lambda u: u * jnp.ones((), jnp.float32))


@mutant("bf16_finite")
def decay_that_rounds_to_one():
    return leafwise(lambda u: u / (1 - jnp.full((), 0.999, u.dtype)))


@mutant("bf16_zero_grads")
def eps_that_rounds_away():
    return leafwise(lambda u: u / ((1 + jnp.abs(u) + 1e-3) - 1))


@mutant("f16")
def largest_number_beyond_float16():
    return leafwise(lambda u: u * 1e6 / jnp.asarray(1e6, u.dtype))


@mutant("f16_zero_grads")
def eps_below_float16():
    return leafwise(lambda u: u / (jnp.abs(u) + 1e-8))


@mutant("f16_not_stalled")
def squares_beyond_float16():
    return optax.scale_by_rms(eps=1e-3)


@mutant("f32_under_x64")
def counter_that_widens():
    return optax.GradientTransformation(
        lambda params: {"count": jnp.zeros([], jnp.int32)},
        lambda u, s, params=None: (u, {"count": s["count"] + jnp.sum(jnp.ones(1, bool))}),
    )


@mutant("f64")
def always_float32():
    def init(params):
        return Momentum(jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params))

    def update(updates, state, params=None):
        new = jax.tree.map(lambda m, u: (0.9 * m + u).astype(m.dtype), state.momentum, updates)
        return jax.tree.map(lambda m, u: m.astype(u.dtype), new, updates), Momentum(new)

    return momentum(init, update)


@mutant("mixed_dtypes")
def one_norm_for_all():
    return optax.stateless(
        lambda u, p: jax.tree.map(
            lambda x: x / (1 + sum(jnp.sum(jnp.abs(y)) for y in jax.tree.leaves(u))), u
        )
    )


@mutant("f32_grads_bf16_params")
def state_takes_the_dtype_of_gradients():
    def update(updates, state, params=None):
        new = jax.tree.map(lambda m, u: 0.9 * m.astype(u.dtype) + u, state.momentum, updates)
        return updates, Momentum(new)

    return momentum(update=update)


@mutant("bf16_grads_f32_params")
def state_narrows_with_gradients():
    return momentum(update=lambda u, s, params=None: (u, Momentum(u)))


@mutant("complex64")
def real_numbers_only():
    return leafwise(lambda u: jnp.sign(u.real) + 0 * u.imag)


@mutant("strict_promotion")
def whole_number_meets_float():
    return leafwise(lambda u: u * jnp.ones((), jnp.int32))


@mutant("rank_promotion")
def vector_meets_matrix():
    return leafwise(lambda u: u - jnp.mean(u, axis=0))


@mutant("debug_nans")
def nan_thrown_away():
    def rule(u):
        norm = jnp.sqrt(jnp.sum(u * u))
        return jnp.where(norm > 0, u / norm, 0.0)

    return leafwise(rule)


@mutant("count_saturates")
def counter_that_wraps():
    return optax.GradientTransformation(
        lambda params: {"count": jnp.zeros([], jnp.int32)},
        lambda u, s, params=None: (u, {"count": s["count"] + 1}),
    )


@mutant("count_saturates")
def small_counter_that_wraps():
    return optax.GradientTransformation(
        lambda params: {"count": jnp.zeros([], jnp.uint8)},
        lambda u, s, params=None: (u, {"count": s["count"] + 1}),
    )


@mutant("zero_params")
def scaled_by_the_parameter():
    def update(updates, params):
        return jax.tree.map(lambda u, p: u * jnp.sqrt(jnp.sum(p * p)), updates, params)

    return optax.stateless(update)


@mutant("descent_direction")
def wrong_sign():
    return optax.scale(-1.0)


@mutant("descends")
def hardly_moves():
    return optax.scale(1e-4)


# Trees.


@mutant("none_leaf")
def none_is_a_leaf():
    return optax.stateless(
        lambda u, p: jax.tree.map(lambda x: x * 1.0, u, is_leaf=lambda x: x is None)
    )


@mutant("masknode_leaf")
def masknode_is_a_leaf():
    return optax.stateless(
        lambda u, p: jax.tree.map(
            lambda x: x * 1.0, u, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
        )
    )


@mutant("scalar_leaf")
def last_axis_assumed():
    return leafwise(lambda u: u - 0.1 * jnp.mean(u, axis=-1, keepdims=True))


@mutant("singleton_dims")
def squeezed():
    return leafwise(lambda u: jnp.squeeze(u) * 1.0)


@mutant("containers")
def tuple_is_a_leaf():
    return optax.stateless(
        lambda u, p: jax.tree.map(lambda x: x * 1.0, u, is_leaf=lambda x: type(x) is tuple)
    )


@mutant("bare_array")
def path_assumed():
    def rule(path, u):
        return u * (0.5 if path[-1] is None else 1.0)

    return optax.stateless(lambda u, p: jax.tree_util.tree_map_with_path(rule, u))


@mutant("rank34")
def ranks_above_two_refused():
    def rule(u):
        assert u.ndim <= 2
        return u

    return leafwise(rule)


@mutant("zero_size_leaf")
def largest_of_nothing():
    return leafwise(lambda u: u / (1 + jnp.max(jnp.abs(u))))


@mutant("empty_tree")
def stack_of_nothing():
    def update(updates, params):
        total = jnp.stack([jnp.sum(u).astype(jnp.float32) for u in jax.tree.leaves(updates)])
        return jax.tree.map(lambda u: u + 0 * total[0].astype(u.dtype), updates)

    return optax.stateless(update)


@mutant("container_invariance")
def bias_by_name():
    def rule(path, u):
        return u * (0.5 if "bias" in jax.tree_util.keystr(path) else 1.0)

    return optax.stateless(lambda u, p: jax.tree_util.tree_map_with_path(rule, u))


def _first_leaf_decides():
    def update(updates, params):
        leaves = jax.tree.leaves(updates, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
        return jax.tree.map(lambda u: u.astype(u.dtype) + 0 * leaves[0].size, updates)

    return optax.stateless(update)


@mutant("masked")
def first_leaf_decides():
    return _first_leaf_decides()


@mutant("partition")
def first_leaf_decides_in_a_group():
    return _first_leaf_decides()


# Composition.


def branch_on_rate(learning_rate=0.01):
    return optax.sgd(learning_rate if learning_rate < 1 else 1.0)


def branch_on_decay(learning_rate=0.01, decay=0.9):
    return optax.sgd(learning_rate, momentum=decay if decay > 0.5 else None)


def decay_near_one(learning_rate=0.01, decay=0.999):
    return optax.chain(optax.scale(1 / (1 - decay)), optax.scale_by_learning_rate(learning_rate))


def rate_in_arithmetic(learning_rate=0.01):
    return optax.chain(optax.identity(), optax.scale(-learning_rate))


def count_from_one(learning_rate=0.01):
    def init(params):
        return {"count": jnp.zeros([], jnp.int32)}

    def update(updates, state, params=None):
        count = optax.safe_increment(state["count"])
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jax.tree.map(lambda u: -u * rate, updates), {"count": count}

    return optax.GradientTransformation(init, update)


def average_weighted_by_the_rate(learning_rate=0.01):
    def init(params):
        return {"count": jnp.zeros([], jnp.int32), "total": jnp.zeros([], jnp.float32)}

    def update(updates, state, params=None):
        rate = learning_rate(state["count"]) if callable(learning_rate) else learning_rate
        total = state["total"] + rate
        new = {"count": optax.safe_increment(state["count"]), "total": total.astype(jnp.float32)}
        return jax.tree.map(lambda u: -u * rate * (rate / total).astype(u.dtype), updates), new

    return optax.GradientTransformation(init, update)


MUTANTS += [
    Mutant("warmup", Subject("average weighted by the rate", average_weighted_by_the_rate)),
    Mutant("schedule", Subject("count from one", count_from_one)),
    Mutant("inject_learning_rate", Subject("branch on rate", branch_on_rate)),
    Mutant("inject_all_floats", Subject("branch on decay", branch_on_decay)),
    Mutant("inject_bf16", Subject("decay near one", decay_near_one)),
    Mutant("schedule", Subject("rate in arithmetic", rate_in_arithmetic)),
]


@mutant("multisteps")
def stops_under_multisteps():
    return unless_called_from("update", "_accumulation")


@mutant("apply_if_finite")
def stops_under_apply_if_finite():
    return unless_called_from("do_update")


@mutant("tree_map_params")
def flat_state():
    def update(updates, state, params=None):
        leaves, tree = jax.tree.flatten(updates)
        new = [0.9 * m + u for m, u in zip(state, leaves, strict=True)]
        return jax.tree.unflatten(tree, new), new

    return momentum(lambda params: [jnp.zeros_like(p) for p in jax.tree.leaves(params)], update)


@mutant("nnx_optimizer")
def flax_refused():
    def update(updates, params):
        assert "flax" not in type(updates).__module__
        return jax.tree.map(lambda u: u * 1.0, updates)

    return optax.stateless(update)


# Persistence.


@mutant("flax_msgpack")
def ordered_dict():
    def init(params):
        return collections.OrderedDict(momentum=zeros(params).momentum)

    def update(updates, state, params=None):
        updates, new = step(updates, Momentum(state["momentum"]))
        return updates, collections.OrderedDict(momentum=new.momentum)

    return momentum(init, update)


@mutant("orbax")
def array_of_size_zero():
    return momentum(lambda params: {"nothing": jnp.zeros((0,))}, lambda u, s, params=None: (u, s))


@mutant("pickle")
def local_class():
    class Local(NamedTuple):
        momentum: Any

    def update(updates, state, params=None):
        updates, new = step(updates, state)
        return updates, Local(new.momentum)

    return momentum(lambda params: Local(zeros(params).momentum), update)


# Sharding.


@mutant("sharded_init")
def zeros_by_shape():
    def init(params):
        def start(p):  # as jnp.zeros_like, and blind to where p lies
            return jnp.zeros(p.shape, p.dtype) if hasattr(p, "sharding") else jnp.zeros_like(p)

        return Momentum(jax.tree.map(start, params))

    return momentum(init=init)


@mutant("sharded_step")
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


@mutant("shard_map")
def sum_over_any_axis():
    def rule(u):
        axes = jax.sharding.get_abstract_mesh().manual_axes
        return jax.lax.psum(u, tuple(axes)) if axes else u

    return leafwise(rule)


@mutant("explicit_mesh")
def gram_of_split_rows():
    return leafwise(lambda u: u + u @ (u.mT @ u) if u.ndim == 2 else u)


# Matrices and traits: claims that do not hold.


def newton_schulz(x, steps=5, eps=1e-7, axes=(-2, -1)):
    x = x / (jnp.sqrt(jnp.sum(x * x, axis=axes, keepdims=True)) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def matrices_by(rule):
    return leafwise(lambda u: rule(u) if u.ndim >= 2 else u)


@mutant("polar_factor", claims={"polar_factor": (0.68, 1.21)})
def one_step_of_five():
    return matrices_by(lambda u: newton_schulz(u, steps=1))


@mutant("polar_factor", claims={"polar_factor": (0.1, 10.0)})
def other_singular_vectors():
    return matrices_by(jnp.sign)


@mutant("orthogonal_equivariance", claims={"orthogonal_equivariance": True})
def entry_by_entry():
    return matrices_by(jnp.sign)


@mutant("scale_invariance", claims={"scale_invariance": True})
def large_eps():
    return matrices_by(lambda u: newton_schulz(u, eps=0.1))


@mutant("transposition", claims={"transposition": True})
def one_step_less_for_wide():
    return matrices_by(lambda u: newton_schulz(u, steps=5 if u.shape[-2] > u.shape[-1] else 2))


def _stack_mutant() -> Subject:
    def factory():
        return optax.stateless(lambda u, p: newton_schulz(u, axes=None))

    stack = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    return Subject("norm over the stack", factory, params=stack, claims={"stack_equals_loop": True})


MUTANTS.append(Mutant("stack_equals_loop", _stack_mutant()))


@mutant("leaf_independent", claims={"leaf_independent": True})
def global_norm():
    return optax.clip_by_global_norm(0.1)


def rate_squared(learning_rate=0.01):
    return optax.sgd(learning_rate**2)


MUTANTS.append(
    Mutant("rate_linear", Subject("rate squared", rate_squared, claims={"rate_linear": True}))
)


@mutant("differentiable", claims={"differentiable": True})
def loop_of_unknown_length():
    def rule(u):
        return jax.lax.while_loop(lambda x: jnp.sum(x * x) > 1, lambda x: x / 2, u)

    return leafwise(rule)
