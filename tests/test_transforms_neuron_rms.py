import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, polar, unchecked_annotations

import gradsmith as gs


def updates_of(rule, stacks):
    state = rule.init(jnp.asarray(stacks[0], jnp.float32))
    for stack in stacks:
        out, state = rule.update(jnp.asarray(stack, jnp.float32), state)
        yield np.asarray(out, np.float64)


def polars(m, n, steps=1):
    return np.stack([[polar(gaussian(m, n, seed=seed))] for seed in range(steps)])


@pytest.mark.parametrize(
    ("axis", "summed"), [("out", {(4, 9): 0, (9, 4): 0}), ("in", {(4, 9): 1, (9, 4): 1}),
                         ("long", {(4, 9): 0, (9, 4): 1})]
)  # fmt: skip
def test_neuron_rms_is_its_formula(axis, summed):
    """v <- 0.8 v + 0.2 mean(O^2) over a neuron; O / sqrt(v), then the norm of O again."""
    for shape, over in summed.items():
        stacks = np.stack([gaussian(2, *shape, seed=seed) for seed in range(4)])
        v = 0.0
        ours = updates_of(gs.scale_by_neuron_rms(0.8, axis=axis), stacks)
        for stack, update in zip(stacks, ours, strict=True):
            v = 0.8 * v + 0.2 * np.mean(stack**2, axis=1 + over, keepdims=True)
            expected = stack / np.sqrt(v)
            norm = lambda x: np.linalg.norm(x, axis=(1, 2), keepdims=True)
            expected *= norm(stack) / norm(expected)
            np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 4), (6, 6)], ids=str)
def test_an_exact_polar_factor_that_does_not_widen_is_left_alone(shape):
    """Golden M6: its columns have norm 1 in every step."""
    stacks = polars(*shape, steps=3)
    for stack, update in zip(stacks, updates_of(gs.scale_by_neuron_rms(), stacks), strict=True):
        np.testing.assert_allclose(update, stack, atol=1e-5)


def test_the_first_step_of_a_layer_that_widens_gives_columns_of_one_norm():
    """Golden M6: sqrt(m / n), so that the Frobenius norm stays sqrt(m)."""
    stacks = polars(4, 9)
    (update,) = updates_of(gs.scale_by_neuron_rms(), stacks)
    np.testing.assert_allclose(np.linalg.norm(update, axis=1), (4 / 9) ** 0.5, rtol=1e-4)
    assert np.ptp(np.linalg.norm(stacks[0], axis=1)) > 0.1


def test_an_output_neuron_is_what_the_axes_say():
    g = gaussian(4, 9).astype(np.float32)
    flax = gs.per_stack(gs.scale_by_neuron_rms(), axes=gs.MatrixAxes(0, 1))
    equinox = gs.per_stack(gs.scale_by_neuron_rms(), axes=gs.MatrixAxes(1, 0))
    one, _ = flax.update(jnp.asarray(g), flax.init(jnp.asarray(g)))
    other, _ = equinox.update(jnp.asarray(g.T), equinox.init(jnp.asarray(g.T)))
    np.testing.assert_allclose(one, other.T, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_zero_columns_and_zero_matrices_stay_zero_in_every_dtype(dtype):
    stack = jnp.ones((2, 3, 4), dtype).at[0].set(0).at[1, :, 0].set(0)
    rule = gs.scale_by_neuron_rms(eps=0.0)
    update, state = rule.update(stack, rule.init(stack))
    assert update.dtype == dtype
    assert state.mean_square.dtype == jnp.float32
    assert not update[0].any()
    assert not update[1, :, 0].any()
    assert np.isfinite(update.astype(jnp.complex64)).all()


def test_a_matrix_of_no_entries_leaves_a_finite_state():
    stack = jnp.zeros((1, 0, 3))
    rule = gs.scale_by_neuron_rms()
    _, state = rule.update(stack, rule.init(stack))
    np.testing.assert_array_equal(state.mean_square, 0)


def test_bad_arguments_are_refused_when_building():
    with unchecked_annotations(), pytest.raises(ValueError, match="no axis is called 'row'; there"):
        gs.scale_by_neuron_rms(axis="row")
    with pytest.raises(ValueError, match=r"scale_by_neuron_rms needs 0 <= decay < 1, got 1\.0"):
        gs.scale_by_neuron_rms(1.0)
    assert optax.tree.size(gs.scale_by_neuron_rms().init(jnp.ones((2, 3, 4)))) == 8
