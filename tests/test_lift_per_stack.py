import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import unchecked_annotations
from overridden import overridden

import gradsmith as gs
from gradsmith import MatrixAxes

LAYERS = {"layers": MatrixAxes(batch_axis=0)}


def tree(seed=0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = {"a": (4, 6), "b": (6, 4), "c": (4, 6), "layers": (3, 4, 6)}
    normal = jax.random.normal
    return {name: normal(k, s, dtype) for k, (name, s) in zip(keys, shapes.items(), strict=True)}


def plain_loop(f, leaves):
    """Return `f` of every matrix, one at a time, in NumPy: the oracle of the lifting."""
    return {
        name: np.stack([f(matrix) for matrix in leaf]) if leaf.ndim == 3 else f(leaf)
        for name, leaf in ((name, np.asarray(leaf)) for name, leaf in leaves.items())
    }


def test_a_function_of_one_matrix_meets_every_matrix_alone():
    """The function sees rows and columns, so a wrong axis or a permuted scatter shows."""
    weigh = lambda xp: lambda x: x * xp.sum(x[:, :1]) - xp.cumsum(x, axis=0)
    tx = gs.per_matrix(weigh(jnp), axes=LAYERS)
    grads = tree()
    updates, _ = tx.update(grads, tx.init(grads))
    for name, expected in plain_loop(weigh(np), grads).items():
        np.testing.assert_allclose(updates[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_rule_sees_one_stack_for_each_shape():
    seen = []
    rule = optax.stateless(lambda updates, params: seen.append(updates.shape) or updates)
    tx = gs.per_stack(rule, axes=LAYERS)
    tx.update(tree(), tx.init(tree()))
    assert seen == [(5, 4, 6), (1, 6, 4)]


@pytest.mark.parametrize(
    "verb", [gs.per_matrix, gs.per_stack, gs.per_gram], ids=lambda v: v.__name__
)
def test_every_verb_takes_the_leaves_in_parts(verb):
    """Two leaves a part: what is put together at once is never more."""
    grads = {str(i): jnp.full((4, 4), float(i)) for i in range(8)}
    tx = verb(optax.identity() if verb is gs.per_stack else lambda x: x)
    state = tx.init(grads)
    with overridden(parts=4):
        program = jax.make_jaxpr(lambda g: tx.update(g, state)[0])(grads)
    made = [(e.primitive.name, x.aval.shape) for e in program.jaxpr.eqns for x in e.outvars]
    gathered = [shape for name, shape in made if name == "concatenate" and len(shape) == 3]
    assert gathered == [(2, 4, 4)] * 4
    assert sum(name == "dynamic_update_slice" for name, _ in made) == 3


def test_the_engine_gives_a_function_so_many_bytes_at_once():
    grads = {str(i): jnp.full((4, 4), float(i)) for i in range(6)}
    double = gs.per_matrix(lambda x: 2 * x)
    with overridden(chunk_bytes=2 * 4 * 4 * 4):
        program = jax.make_jaxpr(lambda g: double.update(g, double.init(g))[0])(grads)
        updates, _ = jax.jit(double.update)(grads, double.init(grads))
    (loop,) = [e for e in program.jaxpr.eqns if e.primitive.name in ("scan", "while")]
    assert loop.params.get("length", 3) == 3
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, 2 * y), updates, grads)


def test_a_rule_gets_stacked_params_and_extra_arguments():
    def update_fn(updates, state, params=None, *, factor, **extra):
        assert not extra
        return factor * (updates + params), state

    rule = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
    tx = gs.per_stack(rule, axes=LAYERS)
    grads, params = tree(0), tree(1)
    updates, _ = tx.update(grads, tx.init(params), params, factor=2.0)
    for name in grads:
        np.testing.assert_allclose(updates[name], 2 * (grads[name] + params[name]), rtol=1e-6)


def test_state_lives_in_its_bucket_under_the_name_of_it():
    tx = gs.per_stack(optax.trace(0.5), axes=LAYERS)
    state = tx.init(tree())
    assert list(state.buckets) == ["5x4x6 float32", "1x6x4 float32"]
    grads = tree()
    for power in (1.0, 1.5, 1.75):
        updates, state = tx.update(grads, state)
        for name, grad in grads.items():
            np.testing.assert_allclose(updates[name], power * grad, rtol=1e-6)


def test_per_layer_and_stacked_give_the_same():
    stacked = jax.random.normal(jax.random.key(2), (12, 5, 7))
    layers = {str(i): layer for i, layer in enumerate(stacked)}
    one, many = gs.muon(0.1, axes=MatrixAxes(batch_axis=0)), gs.muon(0.1)
    state, states = one.init(stacked), many.init(layers)
    for _ in range(3):
        updates, state = one.update(stacked, state)
        per_layer, states = many.update(layers, states)
        for i, update in enumerate(updates):
            np.testing.assert_array_equal(update, per_layer[str(i)])


class KitchenSink(NamedTuple):
    """Every kind of thing that people keep in a state."""

    count: Any
    nothing: None
    key: Any
    factors: dict


def kitchen_sink():
    """A transformation of one matrix: whitens rows by a running (m, m) factor."""

    def init_fn(param):
        m, _ = param.shape
        factors = {"left": jnp.zeros((m, m), param.dtype)}
        return KitchenSink(jnp.zeros((), jnp.int32), None, jax.random.key(0), factors)

    def update_fn(updates, state, params=None):
        left = 0.9 * state.factors["left"] + updates @ updates.T
        key, _ = jax.random.split(state.key)
        out = left @ updates / (state.count + 1).astype(updates.dtype)
        return out, KitchenSink(state.count + 1, None, key, {"left": left})

    return optax.GradientTransformation(init_fn, update_fn)


def test_a_stateful_rule_for_one_matrix_keeps_a_state_for_each():
    tx = gs.per_matrix(kitchen_sink(), axes=LAYERS)
    state = tx.init(tree())
    left = dict.fromkeys(tree(), 0.0)
    for step in range(3):
        grads = tree(step)
        updates, state = jax.jit(tx.update)(grads, state)
        for name, leaf in grads.items():
            g = np.asarray(leaf, np.float64)
            left[name] = 0.9 * left[name] + g @ np.swapaxes(g, -1, -2)
            expected = left[name] @ g / (step + 1)
            np.testing.assert_allclose(updates[name], expected, rtol=1e-4, atol=1e-4)
    assert state.buckets["5x4x6 float32"].count.shape == (5,)
    assert state.buckets["5x4x6 float32"].nothing is None


def test_jit_gives_what_eager_gives():
    tx = gs.muon(0.02, axes=LAYERS)
    grads = tree()
    eager, _ = tx.update(grads, tx.init(grads))
    jitted, _ = jax.jit(tx.update)(grads, jax.jit(tx.init)(grads))
    # Fusion reorders sums; Newton-Schulz amplifies that about 500 times.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), eager, jitted)


def test_gradients_of_another_dtype_keep_the_dtype_of_state_and_of_updates():
    tx = gs.per_stack(optax.trace(0.9), axes=LAYERS)
    state = tx.init(tree(dtype=jnp.float32))
    updates, after = tx.update(tree(dtype=jnp.bfloat16), state)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.bfloat16.dtype}
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)


def test_a_bucket_of_mixed_dtypes_computes_in_the_wider_and_returns_each_its_own():
    grads = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones((2, 3), jnp.float32)}
    tx = gs.per_stack(optax.trace(0.9))
    updates, state = tx.update(grads, tx.init(grads))
    assert list(state.buckets) == ["2x2x3 float32"]
    assert updates["a"].dtype == jnp.bfloat16
    assert updates["b"].dtype == jnp.float32


def test_none_and_masked_leaves_pass_through():
    grads = {"a": jnp.eye(2), "b": None, "c": optax.MaskedNode()}
    tx = gs.per_matrix(lambda x: 2 * x)
    updates, _ = tx.update(grads, tx.init(grads))
    assert updates["b"] is None
    assert updates["c"] == optax.MaskedNode()
    np.testing.assert_array_equal(updates["a"], 2 * np.eye(2))


def test_a_tree_without_leaves_is_no_error():
    tx = gs.per_matrix(lambda x: 2 * x)
    updates, state = tx.update({}, tx.init({}))
    assert updates == {}
    assert tx.update({}, state)[0] == {}


def test_map_params_reaches_the_momentum_and_passes_over_the_buckets():
    tx = optax.chain(optax.trace(0.9), gs.per_stack(optax.trace(0.9), axes=LAYERS))
    state = tx.init(tree())
    ones = optax.tree.map_params(tx, jnp.ones_like, state)
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(ones[0]))
    jax.tree.map(np.testing.assert_array_equal, ones[1], state[1])


def test_a_function_that_changes_the_shape_is_refused_by_name():
    def gram(x):
        return x @ x.T

    tx = gs.per_matrix(gram)
    grads = {"kernel": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=r"gram returned shape \(2, 2\) .* \(2, 3\)"):
        tx.update(grads, tx.init(grads))


def test_what_is_neither_function_nor_transformation_is_refused():
    with pytest.raises(TypeError, match="per_matrix takes a function of one matrix"):
        inspect.unwrap(gs.per_matrix)(3)  # below the run-time type check of the tests


def test_an_unknown_placement_is_refused():
    with (
        unchecked_annotations(),
        pytest.raises(ValueError, match="no placement is called 'everywhere'"),
    ):
        gs.per_stack(optax.identity(), placement="everywhere")


def test_a_state_of_other_parameters_is_refused():
    tx = gs.per_stack(optax.trace(0.9))
    state = tx.init({"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match="no bucket 1x5x3, only 1x2x3 float32"):
        tx.update({"a": jnp.ones((5, 3))}, state)


def test_params_of_another_structure_are_refused():
    tx = gs.per_stack(optax.trace(0.9))
    grads = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 3))}
    state = tx.init(grads)
    with pytest.raises(ValueError, match=r"the leaf 'b' of shape .2, 3., and params have no such"):
        tx.update(grads, state, {"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match=r"params have shape .3, 2. there"):
        tx.update(grads, state, {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))})


def test_a_gradient_that_is_none_is_left_alone():
    """By a function, which keeps nothing. A rule has a bucket for the matrix, and says so."""
    params = {"a": jnp.ones((2, 3)), "b": jnp.full((2, 3), 2.0)}
    grads = {"a": jnp.ones((2, 3)), "b": None}
    tx = gs.per_matrix(lambda x: 3 * x)
    updates, state = tx.update(grads, tx.init(params), params)
    assert updates["b"] is None
    np.testing.assert_array_equal(updates["a"], np.full((2, 3), 3.0))
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
    kept = gs.per_stack(optax.trace(0.9))
    with pytest.raises(ValueError, match="A parameter without a gradient"):
        kept.update(grads, kept.init(params), params)
    decayed = gs.per_matrix(optax.add_decayed_weights(0.5))
    updates, _ = decayed.update({"a": None, "b": grads["a"]}, decayed.init(grads), params)
    np.testing.assert_array_equal(updates["b"], np.full((2, 3), 2.0))  # b's parameter, not a's
