"""A momentum in 8 bits: its error against its bound, its bytes, its places on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from matrix_oracles import gaussian

import gradsmith as gs
from gradsmith.observe.state_shardings import bytes_on_device


def rounded(x, block):
    """The oracle: what one rounding of a row leaves of it, block by block, in float64."""
    out = np.zeros_like(x)
    count = -(-len(x) // block)
    length = -(-len(x) // count)
    for start in range(0, len(x), length):
        part = x[start : start + length]
        scale = np.abs(part).max()
        if scale:
            out[start : start + length] = np.round(part / scale * 127) / 127 * scale
    return out


def updates_of(tx, grads):
    state, update, found = tx.init(grads[0]), jax.jit(tx.update), []
    for g in grads:
        out, state = update(g, state)
        found.append(np.asarray(out["w"]))
    return found, state


@pytest.mark.parametrize("block", [1, 3, 4, 7, 100])
def test_a_momentum_is_the_loop_that_rounds_what_it_keeps(block):
    with jax.enable_x64(True):
        grads = [{"w": jnp.asarray(gaussian(3, 10, seed=step))} for step in range(5)]
        found, _ = updates_of(gs.quantize_state(gs.momentum(0.9, "heavy_ball"), block), grads)
        kept = np.zeros((3, 10))
        for g, out in zip(grads, found, strict=True):
            m = 0.9 * kept + np.asarray(g["w"])
            np.testing.assert_allclose(out, m, rtol=1e-12)
            kept = np.stack([rounded(row, block) for row in m])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64])
def test_blocks_of_one_are_float(dtype):
    """The limit: the largest number of a block is exact, and here each number is that."""
    numbers = lambda step: jnp.asarray(gaussian(4, 6, seed=step), jnp.float32).astype(dtype)
    grads = [{"w": numbers(step)} for step in range(6)]
    plain, _ = updates_of(gs.momentum(0.9), grads)
    found, _ = updates_of(gs.quantize_state(gs.momentum(0.9), 1), grads)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one.astype(complex), other.astype(complex), rtol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.95])
def test_the_error_is_within_the_bound_of_the_docstring(decay):
    """`decay / (1 - decay) * M / 254` in what comes out, for noise and for what stands still."""
    noise = [gaussian(2, 64, seed=step) for step in range(100)]
    still = [gaussian(2, 64, seed=99)] * 100
    for numbers in (noise, still):
        grads = [{"w": jnp.asarray(g, jnp.float32)} for g in numbers]
        plain, _ = updates_of(gs.momentum(decay, "heavy_ball"), grads)
        found, state = updates_of(gs.quantize_state(gs.momentum(decay, "heavy_ball")), grads)
        largest = max(np.abs(m).max() for m in (*plain, *found))
        bound = decay / (1 - decay) * largest / 254
        errors = [np.abs(m - q).max() for m, q in zip(plain, found, strict=True)]
        assert 0 < max(errors) < bound
        assert state.kept.momentum["w"].dtype == jnp.int8


def test_the_bound_is_nearly_reached_where_nothing_moves():
    """Golden G12: 20 stands, and beside it 1.56 would be the limit, but nothing is kept."""
    g = {"w": jnp.array([[1.0, 0.078, 0.080]])}
    tx = gs.quantize_state(gs.momentum(0.95, "heavy_ball"))
    state, update = tx.init(g), jax.jit(tx.update)
    state = state._replace(
        kept=state.kept._replace(momentum={"w": jnp.array([[127, 0, 0]], jnp.int8)}),
        scales=state.scales._replace(momentum={"w": jnp.array([[20.0]])}),
    )
    for _ in range(50):
        updates, state = update(g, state)
    np.testing.assert_allclose(updates["w"], [[20.0, 0.078, 20 / 127 * 0.95 + 0.08]], rtol=1e-3)
    bound = 0.95 / 0.05 * 20 / 254
    assert 0.9 * bound < 1.56 - updates["w"][0, 1] < bound


def test_a_momentum_of_muon_is_a_percent_off():
    """Golden Q1: 256 x 1024 in blocks of 2048, with rows of log-normal lengths."""
    rows = np.exp(gaussian(256, 1, seed=3))
    grads = [{"w": jnp.asarray(rows * gaussian(256, 1024), jnp.float32)}]
    _, state = updates_of(gs.quantize_state(gs.momentum(0.9, "heavy_ball"), 2048), grads)
    kept = np.asarray(state.kept.momentum["w"]) / 127.0 * np.asarray(state.scales.momentum["w"])
    error = np.linalg.norm(kept - grads[0]["w"]) / np.linalg.norm(grads[0]["w"])
    assert 0.003 < error < 0.015


def test_a_quarter_of_the_bytes_remains():
    params = {"w": jax.ShapeDtypeStruct((768, 3072), jnp.float32)}
    size = lambda tx: bytes_on_device(jax.eval_shape(tx.init, params))
    plain, ours = size(gs.momentum()), size(gs.quantize_state(gs.momentum()))
    assert ours == 768 * 3072 + 4 * 768 * 2 + 4
    assert ours < 0.26 * plain


def test_counters_and_scalars_stay_and_zeros_are_zeros():
    tx = gs.quantize_state(gs.scale_by_ademamix())
    params = {"w": jnp.ones((2, 3)), "scalar": jnp.ones(()), "none": None}
    state = tx.init(params)
    assert state.kept.step.dtype == jnp.int32
    assert state.kept.fast["scalar"].dtype == jnp.float32
    assert state.scales.fast["scalar"] is None
    zeros, state = jax.jit(gs.quantize_state(gs.momentum()).update)(
        {"w": jnp.zeros((2, 3))}, gs.quantize_state(gs.momentum()).init({"w": jnp.ones((2, 3))})
    )
    np.testing.assert_array_equal(zeros["w"], 0)
    np.testing.assert_array_equal(state.scales.momentum["w"], 0)


def test_a_rule_inside_per_stack_may_be_quantized():
    rule = gs.quantize_state(gs.momentum(0.9), 4)
    grads = [{"w": jnp.asarray(gaussian(3, 10, seed=step), jnp.float32)} for step in range(3)]
    for one, other in zip(
        updates_of(gs.per_stack(rule), grads)[0], updates_of(rule, grads)[0], strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("x"), P(None, "x"), P()], ids=str)
def test_on_a_mesh_it_is_the_same_and_lies_where_the_parameters_lie(kind, spec):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    tx = gs.quantize_state(gs.momentum(0.9), 6)
    grads = [{"w": jnp.asarray(gaussian(8, 24, seed=step), jnp.float32)} for step in range(3)]
    expected, _ = updates_of(tx, grads)
    with jax.set_mesh(mesh):
        there = [jax.device_put(g, NamedSharding(mesh, spec)) for g in grads]
        state, update = tx.init(there[0]), jax.jit(tx.update)
        for g, wanted in zip(there, expected, strict=True):
            updates, state = update(g, state)
            np.testing.assert_allclose(jax.device_get(updates["w"]), wanted, rtol=1e-6)
        shardings = gs.state_shardings(tx, there[0])
        if kind == AxisType.Explicit:
            assert state.kept.momentum["w"].sharding.spec == P(*spec, *[None] * (2 - len(spec)))
    assert shardings.kept.momentum["w"].spec == spec
    assert tuple(shardings.scales.momentum["w"].spec) == ((*spec, None, None)[0], None)


def test_what_is_the_parameters_is_found():
    params = {"w": jnp.ones((2, 3))}
    tx = gs.quantize_state(gs.momentum())
    marked = optax.tree.map_params(tx, lambda x: "here", tx.init(params))
    assert marked.kept.momentum == {"w": "here"}
    assert marked.scales.momentum["w"].shape == (2, 1)


def test_bad_blocks_are_refused():
    with pytest.raises(ValueError, match="quantize_state needs block >= 1, got 0"):
        gs.quantize_state(gs.momentum(), 0)
