"""Dion2 and NorDion2: float64 loops, limits, what stays in the momentum, and what a mesh moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from matrix_oracles import gaussian, polar

import gradsmith as gs

SHAPES = {"wide": (4, 9), "narrow": (9, 4), "square": (5, 5)}


def loop(grads, fraction, outputs, neuron_decay=None):
    """The updates of one matrix; `outputs` says whether columns are chosen."""
    m, n = grads[0].shape
    kept, squares, counts = np.zeros((m, n)), np.zeros(n), np.zeros(n)
    for g in grads:
        kept = kept + g
        sizes = np.abs(kept).sum(0 if outputs else 1)
        which = sorted(np.argsort(-sizes, kind="stable")[: int(np.ceil(fraction * len(sizes)))])
        where = (slice(None), which) if outputs else (which, slice(None))
        part = polar(kept[where])
        kept[where] *= 0.95
        if neuron_decay is not None:
            squares[which] *= neuron_decay
            squares[which] += (1 - neuron_decay) * np.mean(part**2, 0)
            counts[which] += 1
            scaled = part / np.sqrt(squares / (1 - neuron_decay ** np.maximum(counts, 1)))[which]
            part = scaled * np.linalg.norm(part) / np.linalg.norm(scaled)
        out = np.zeros((m, n))
        out[where] = np.sqrt(n / m) * part
        yield out


def run(tx, grads):
    state, update, outs = tx.init(grads[0]), jax.jit(tx.update), []
    for g in grads:
        updates, state = update(g, state)
        outs.append(updates)
    return outs, state


def draws(steps=4, dtype=jnp.float64):
    return [
        {key: jnp.asarray(gaussian(*shape, seed=step), dtype) for key, shape in SHAPES.items()}
        for step in range(steps)
    ]


@pytest.mark.parametrize("arguments", [{}, {"side": "in"}, {"neuron_decay": 0.95}])
def test_it_is_the_loop_of_the_paper(arguments):
    with jax.enable_x64(True):
        grads = draws()
        scale = gs.match_operator_norm()
        tx = gs.orthogonalize_largest(0.4, method="svd", postprocess=scale, **arguments)
        found, _ = run(tx, grads)
        for key, (m, n) in SHAPES.items():
            shorter = "out" if n <= m or "neuron_decay" in arguments else "in"
            side = arguments.get("side", shorter)
            theirs = loop(
                [np.asarray(g[key]) for g in grads],
                0.4,
                side == "out",
                arguments.get("neuron_decay"),
            )
            np.testing.assert_allclose([u[key] for u in found], list(theirs), atol=1e-9)


def test_a_fraction_of_one_is_muon():
    muon = gs.muon(0.1, momentum_kind="heavy_ball", shape_scale="match_operator_norm")
    grads = draws(3, jnp.float32)
    (ours, _), (theirs, _) = run(gs.dion2(0.1, fraction=1.0), grads), run(muon, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, theirs)


def test_nordion2_of_everything_is_normuon():
    grads = draws(3, jnp.float32)
    norm = gs.per_stack(gs.scale_by_neuron_rms(0.95))
    whole = gs.orthogonalize_largest(1.0, neuron_decay=0.95, method="svd")
    ours, _ = run(whole, grads)
    outs, _ = run(gs.momentum(0.95, "heavy_ball"), grads)
    outs, _ = run(gs.orthogonalize("svd"), outs)
    theirs, _ = run(norm, outs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


def test_equal_gradients_take_turns_and_what_waits_is_kept():
    """Golden G15: a slice is chosen every 1 / fraction steps; its sum is g / (1 - decay) each."""
    grads = [{"kernel": jnp.eye(4)}] * 400
    tx = gs.orthogonalize_largest(0.5, method="svd")
    state, update = tx.init(grads[0]), jax.jit(tx.update)
    turns = []
    for step, g in enumerate(grads):
        before = state.momentum["kernel"] + g["kernel"]
        updates, state = update(g, state)
        chosen = np.abs(updates["kernel"]).sum(0) > 0
        turns.append(chosen.tolist())
        expected = before * jnp.where(chosen, 0.95, 1)[None, :]
        np.testing.assert_allclose(state.momentum["kernel"], expected, rtol=1e-6)
        if step >= 4:
            assert chosen.sum() == 2
    assert turns[:4] == [[True, True, False, False], [False, False, True, True]] * 2
    assert 39 < np.abs(before).sum(0).max() < 41


def test_of_equal_slices_the_first_is_chosen():
    tx = gs.orthogonalize_largest(0.1, method="svd")
    grads = {"kernel": jnp.ones((30, 30))}
    updates, _ = tx.update(grads, tx.init(grads))
    assert np.flatnonzero(np.abs(updates["kernel"]).sum(0)).tolist() == [0, 1, 2]


LAYERS = gs.MatrixAxes(batch_axis=0)


def received(tx):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    home = NamedSharding(mesh, P(None, "x"))
    tree = {"layers": jax.ShapeDtypeStruct((8, 16, 32), jnp.float32, sharding=home)}
    return gs.update_cost(tx, tree).received


def test_a_mesh_moves_only_what_is_chosen():
    """And the sizes of the slices, which all devices add up."""
    choose = lambda fraction, side: gs.orthogonalize_largest(fraction, side=side, axes=LAYERS)
    whole = received(gs.orthogonalize(axes=LAYERS))
    sizes = received(choose(1.0, "out")) - whole
    assert 0 < sizes <= 2 * 8 * 32 * 4
    assert received(choose(0.25, "out")) == whole / 4 + sizes
    assert received(choose(0.25, "in")) > whole  # a split side


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize("side", ["in", "out"])
def test_the_mesh_does_not_change_the_result(kind, side):
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind, kind))
    specs = {"a": P("x", "y"), "layers": P(None, "x"), "fused": P("x", "y")}
    shapes = {"a": (8, 16), "layers": (3, 8, 12), "fused": (8, 24)}
    axes = {
        "layers": gs.MatrixAxes(batch_axis=0),
        "fused": gs.MatrixAxes(cut_axis=1, blocks=(8, 16)),
    }
    grads = {key: jnp.asarray(gaussian(*s, seed=3), jnp.float32) for key, s in shapes.items()}
    nor = {"neuron_decay": 0.9} if side == "out" else {}
    make = lambda placement: gs.orthogonalize_largest(
        0.3, side=side, axes=axes, placement=placement, **nor
    )
    alone, _ = run(make("owners"), [grads] * 2)
    split = {key: jax.device_put(g, NamedSharding(mesh, specs[key])) for key, g in grads.items()}
    with jax.set_mesh(mesh):
        spread, _ = run(make(gs.Owners(param_specs=specs)), [split] * 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone, spread)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0.0}, "0 < fraction <= 1"),
        ({"fraction": 1.5}, "0 < fraction <= 1"),
        ({"neuron_decay": 0.9, "side": "in"}, "outputs are chosen, got side='in'"),
        ({"decay": 1.0}, "0 <= decay < 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        gs.orthogonalize_largest(**arguments)
