"""per_gram against NumPy on each matrix: sides, stacks, scales, state, turns and copies."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, polar
from overridden import overridden

from gradsmith import MatrixAxes, muon, per_stack
from gradsmith.lift.per_gram import per_gram

AXES = {"stack": MatrixAxes(-2, -1, batch_axis=0), "heads": MatrixAxes(0, (1, 2))}


def inverse_root(grams):
    """One-sided whitening: the polar factor, by eigenvalues."""
    values, vectors = jnp.linalg.eigh(grams)
    return (vectors / jnp.sqrt(values)[:, None, :]) @ vectors.mT


def tree(seed=0):
    shapes = {"wide": (4, 7), "tall": (7, 4), "square": (4, 4), "stack": (3, 4, 9), "big": (6, 8)}
    leaves = {k: gaussian(*s, seed=seed + i) for i, (k, s) in enumerate(shapes.items())}
    leaves["heads"] = gaussian(6, 2, 5, seed=seed + 9)
    return leaves


def single(x):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), x)


def test_every_matrix_gets_its_own_factor_whatever_its_side_and_its_leaf():
    grads = tree()
    tx = per_gram(inverse_root, axes=AXES)
    updates, _ = tx.update(single(grads), tx.init(single(grads)))
    for name in ("wide", "tall", "square", "big"):
        np.testing.assert_allclose(updates[name], polar(grads[name]), atol=1e-4)
    for got, x in zip(updates["stack"], grads["stack"], strict=True):
        np.testing.assert_allclose(got, polar(x), atol=1e-4)
    heads = polar(grads["heads"].reshape(6, 10)).reshape(6, 2, 5)
    np.testing.assert_allclose(updates["heads"], heads, atol=1e-4)


def test_grams_of_one_size_meet_whatever_the_other_side():
    seen = []

    def rule(grams):
        seen.append(grams.shape)
        return grams

    tx = per_gram(rule, axes=AXES)
    state = tx.init(single(tree()))
    assert sorted(state.buckets) == [
        "1x4x4 float32", "1x6x10 float32", "1x6x8 float32", "2x4x7 float32", "3x4x9 float32"
    ]  # fmt: skip
    tx.update(single(tree()), state)
    assert sorted(seen) == [(2, 6, 6), (6, 4, 4)]


def test_the_matrices_are_never_gathered():
    grads = {str(i): jnp.ones((4, 50)) for i in range(3)}

    def largest_gathered(tx):
        jaxpr = jax.make_jaxpr(lambda g: tx.update(g, tx.init(g))[0])(grads)
        sizes = [
            out.aval.size
            for equation in jaxpr.jaxpr.eqns
            if equation.primitive.name in ("concatenate", "dynamic_update_slice")
            for out in equation.outvars
        ]
        return max(sizes)

    assert largest_gathered(per_gram(lambda grams: grams)) == 3 * 4 * 4
    assert largest_gathered(per_stack(optax.identity())) == 3 * 4 * 50


def test_the_matrices_come_one_part_after_the_other():
    """XLA on CPUs would have a scaled copy of every matrix in memory at the same time."""
    shapes = [(256, 1024), (1024, 256)] * 8
    params = {str(i): jax.ShapeDtypeStruct(s, jnp.float32) for i, s in enumerate(shapes)}
    tx = muon(0.02)

    def step(params, grads, state):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, params)

    def temporaries():
        memory = jax.jit(step).lower(params, params, state).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    matrices, grams = 16 * 4 * 256 * 1024, 16 * 4 * 256 * 256
    assert temporaries() < grams + matrices / 3
    with overridden(forces_order=False):
        assert temporaries() > grams + matrices / 2  # 1.05 of the matrices if all at once


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_scale_free_rule_takes_any_scale(scale):
    grads = {"wide": gaussian(4, 7), "tall": gaussian(7, 4)}
    tx = per_gram(inverse_root, scale_free=True)
    scaled = single(jax.tree.map(lambda x: scale * x, grads))
    updates, _ = tx.update(scaled, tx.init(scaled))
    for name, x in grads.items():
        np.testing.assert_allclose(updates[name], polar(x), atol=1e-4)


def test_another_rule_sees_the_true_gram_matrix():
    x = gaussian(4, 7)
    tx = per_gram(lambda grams: grams)
    updates, _ = tx.update(single(x), tx.init(single(x)))
    np.testing.assert_allclose(updates, x @ x.T @ x, rtol=1e-4, atol=1e-4)


def one_sided_shampoo(decay):
    """Keep an average of the Gram matrices; whiten by it."""

    def update_fn(grams, average, params=None):
        average = decay * average + (1 - decay) * grams
        return inverse_root(average), average

    return optax.GradientTransformation(jnp.zeros_like, update_fn)


def test_a_rule_with_a_state_is_one_sided_shampoo():
    tx = per_gram(one_sided_shampoo(0.75), placement="replicated")
    params = {"wide": jnp.zeros((3, 5)), "tall": jnp.zeros((5, 3))}
    state, average = tx.init(params), {"wide": np.zeros((3, 3)), "tall": np.zeros((3, 3))}
    for step in range(3):
        grads = {"wide": gaussian(3, 5, seed=step), "tall": gaussian(5, 3, seed=10 + step)}
        updates, state = tx.update(single(grads), state)
        for name, x in grads.items():
            wide = x if name == "wide" else x.T
            average[name] = 0.75 * average[name] + 0.25 * wide @ wide.T
            values, vectors = np.linalg.eigh(average[name])
            expected = (vectors / np.sqrt(values)) @ vectors.T @ wide
            out = updates[name] if name == "wide" else updates[name].T
            np.testing.assert_allclose(out, expected, atol=1e-3)
    assert state.buckets["2x3x5 float32"].shape == (2, 3, 3)


@pytest.mark.parametrize("temporaries", [1, 4 * 16 * 4, 1 << 30])
def test_chunks_change_nothing_and_keep_to_their_limit(temporaries):
    grads = single({"a": gaussian(5, 4, 6), "b": gaussian(7, 4, seed=1)})
    axes = {"a": MatrixAxes(-2, -1, batch_axis=0)}
    sizes = []

    def rule(grams):
        sizes.append(grams.size * grams.dtype.itemsize)
        return inverse_root(grams)

    whole = per_gram(inverse_root, axes=axes)
    turns = per_gram(rule, axes=axes, chunk_bytes=temporaries)
    expected, _ = whole.update(grads, whole.init(grads))
    updates, _ = turns.update(grads, turns.init(grads))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), updates, expected)
    assert max(sizes) <= max(temporaries, 4 * 4 * 4)


def test_a_nan_stays_in_its_matrix():
    grads = single({"a": gaussian(3, 4, 6), "b": gaussian(6, 4, seed=1)})
    axes = {"a": MatrixAxes(-2, -1, batch_axis=0)}
    tx = per_gram(inverse_root, axes=axes, scale_free=True)
    bad = {**grads, "a": grads["a"].at[1, 2, 3].set(jnp.nan)}
    good, _ = tx.update(grads, tx.init(grads))
    updates, _ = tx.update(bad, tx.init(grads))
    assert np.isnan(updates["a"][1]).all()
    np.testing.assert_array_equal(updates["a"][::2], good["a"][::2])
    np.testing.assert_array_equal(updates["b"], good["b"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_has_float32_grams(dtype):
    x = jnp.asarray(gaussian(4, 7), dtype)
    tx = per_gram(inverse_root)
    state = tx.init(x)
    assert list(state.buckets) == ["1x4x7 float32"]
    updates, _ = tx.update(x, state)
    assert updates.dtype == dtype
    expected = polar(np.asarray(x, np.float64))
    np.testing.assert_allclose(
        np.asarray(updates, np.float64), expected, atol=float(jnp.finfo(dtype).eps)
    )


def test_masked_and_empty_trees_pass_through():
    tx = per_gram(inverse_root)
    grads = {"x": jnp.eye(2), "none": None, "masked": optax.MaskedNode()}
    updates, _ = tx.update(grads, tx.init(grads))
    assert updates["none"] is None
    assert updates["masked"] == optax.MaskedNode()
    assert tx.update({}, tx.init({}))[0] == {}


def test_postprocess_sees_each_leaf_with_its_true_sides():
    shapes = []

    def note(updates, params):
        shapes.append(updates.shape)
        return 2 * updates

    x = {"wide": gaussian(4, 7), "tall": gaussian(7, 4)}
    tx = per_gram(inverse_root, postprocess=optax.stateless(note))
    updates, _ = tx.update(single(x), tx.init(single(x)))
    assert sorted(shapes) == [(1, 4, 7), (1, 7, 4)]
    np.testing.assert_allclose(updates["tall"], 2 * polar(x["tall"]), atol=1e-4)


def test_jit_scan_and_map_params_work():
    params = single({"wide": gaussian(3, 5), "tall": gaussian(5, 3)})
    tx = per_gram(one_sided_shampoo(0.5))
    state = tx.init(params)

    def step(state, _):
        updates, state = tx.update(params, state)
        return state, updates

    scanned, _ = jax.jit(lambda s: jax.lax.scan(step, s, None, length=2))(state)
    assert jax.tree.structure(scanned) == jax.tree.structure(state)
    mapped = optax.tree.map_params(tx, lambda x: x + 1, state)
    jax.tree.map(np.testing.assert_array_equal, mapped, state)


def test_a_rule_may_return_another_dtype_at_any_size():
    """Below and above what comes in chunks."""
    for side in (16, 256):
        grads = {"a": jnp.eye(side), "b": 2 * jnp.eye(side)}
        tx = per_gram(lambda grams: grams.astype(jnp.bfloat16))
        updates, _ = tx.update(grads, tx.init(grads))
        np.testing.assert_array_equal(updates["b"], 8 * np.eye(side))
        assert updates["b"].dtype == jnp.float32


def test_a_postprocess_that_keeps_a_state_is_refused():
    with pytest.raises(ValueError, match="postprocess=trace keeps a state"):
        per_gram(inverse_root, postprocess=optax.trace(0.9))


def test_a_vector_is_refused_by_name():
    with pytest.raises(ValueError, match="'bias'"):
        per_gram(inverse_root).init({"bias": jnp.zeros(3)})


@pytest.mark.parametrize("placement", ["replicated", "owners"])
@pytest.mark.parametrize("kind", ["function", "transformation"])
def test_an_explicit_mesh_changes_nothing(placement, kind):
    rule = inverse_root if kind == "function" else one_sided_shampoo(0.0)
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    grads = single({"wide": gaussian(8, 16), "tall": gaussian(16, 8)})
    alone = per_gram(rule)
    expected, _ = alone.update(grads, alone.init(grads))
    tx = per_gram(rule, placement=placement)
    with jax.set_mesh(mesh):
        sharding = jax.sharding.NamedSharding(mesh, jax.P("a", "b"))
        there = jax.device_put(grads, sharding)
        updates, _ = jax.jit(tx.update)(there, tx.init(there))
    for name in grads:
        assert updates[name].sharding == sharding
        np.testing.assert_allclose(updates[name], expected[name], atol=1e-5)


def test_a_rule_gets_stacks_and_an_empty_leaf_nothing():
    """One matrix at a time is a stack of one for a rule; matrices of no entries are no error."""
    seen = []

    def rule(grams):
        seen.append(grams.shape)
        return grams

    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((3, 5)), "empty": jnp.zeros((0, 4))}
    tx = per_gram(rule, chunk_bytes=1)
    updates, _ = tx.update(params, tx.init(params))
    assert {shape[1:] for shape in seen} == {(0, 0), (3, 3)}
    assert all(len(shape) == 3 for shape in seen)
    assert updates["empty"].shape == (0, 4)
