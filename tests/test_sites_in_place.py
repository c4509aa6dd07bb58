"""A matrix alone of its size stays where it is; numbers and collectives are those promised."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs

SHORT, LONG = 16, 64
NUMBER = 4  # bytes


def on_mesh(sizes, kind=AxisType.Explicit):
    return jax.make_mesh(sizes, ("x", "y")[: len(sizes)], axis_types=(kind,) * len(sizes))


def abstract(mesh, spec, *shapes):
    home = NamedSharding(mesh, spec)
    return {str(s): jax.ShapeDtypeStruct(s, jnp.float32, sharding=home) for s in shapes}


def squared(grams):
    return grams @ grams


@pytest.mark.parametrize(
    ("sizes", "shape", "spec", "pieces"),
    [
        ((8,), (SHORT, LONG), P(None, "x"), 8),
        ((8,), (LONG, SHORT), P("x"), 8),
        ((2, 4), (SHORT, LONG), P(None, ("y", "x")), 8),
        ((2, 4), (SHORT, LONG), P(None, "y"), 4),
        ((8,), (SHORT, LONG), P(), 1),
    ],
    ids=str,
)
def test_the_long_side_is_divided_and_the_gram_matrix_summed(sizes, shape, spec, pieces):
    cost = gs.update_cost(gs.per_gram(squared), abstract(on_mesh(sizes), spec, shape))
    reduced = [("all-reduce", 1)] if pieces > 1 else []
    assert [(x.kind, x.count) for x in cost.collectives] == reduced
    # A ring takes a part of every piece twice round.
    assert cost.received == 2 * SHORT**2 * NUMBER * (1 - 1 / pieces)
    assert cost.flops == 4 * SHORT**2 * LONG / pieces + 2 * SHORT**3


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        (P("x"), [(SHORT, LONG)]),  # its short side is split
        (P(None, "x"), [(SHORT, LONG), (LONG, SHORT)]),  # it is not alone
    ],
    ids=str,
)
def test_others_go_to_owners(spec, shapes):
    params = abstract(on_mesh((8,)), spec, *shapes)
    cost = gs.update_cost(gs.per_gram(squared), params)
    assert [(x.kind, x.count) for x in cost.collectives] == [("all-to-all", 2)]


def grads():
    shapes = {"lone": (SHORT, LONG), "tall": (2 * LONG, SHORT), "a": (8, 8), "b": (8, 8)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


SPECS = {"lone": P(None, "x"), "tall": P("x"), "a": P("x"), "b": P("x")}


@pytest.mark.parametrize("set_mesh", [True, False])
@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "eager"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_lone_matrices_and_others_together(kind, wrap, set_mesh):
    """With a shape scale, which must see the whole shape, and a traced number in the rule."""
    mesh = on_mesh((8,), kind)
    homes = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}

    def update(grads, factor, placement="owners"):
        rule = lambda grams: factor * grams / jnp.trace(grams, axis1=1, axis2=2)[:, None, None]
        tx = gs.per_gram(rule, postprocess=gs.scale_by_aspect_ratio(), placement=placement)
        return tx.update(grads, tx.init(grads))[0]

    expected = update(grads(), 3.0)
    placed = jax.device_put(grads(), homes)
    with jax.set_mesh(mesh) if set_mesh else contextlib.nullcontext():
        at_owners = functools.partial(update, placement=gs.Owners(param_specs=homes))
        updates = wrap(at_owners)(placed, jnp.float32(3.0))
    for name, x in updates.items():
        # The Gram matrix is a sum in another order: a few roundings of numbers up to 1.
        np.testing.assert_allclose(x, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert x.sharding.is_equivalent_to(homes[name], 2), name


def test_a_scan_over_steps_keeps_all_types():
    tx = gs.per_gram(squared)
    with jax.set_mesh(on_mesh((8,))):
        params = {"lone": jax.device_put(grads()["lone"], SPECS["lone"])}

        def step(params, _):
            updates, _ = tx.update(params, tx.init(params))
            return optax.apply_updates(params, updates), None

        run = lambda params: jax.lax.scan(step, params, length=3)[0]
        assert jax.eval_shape(run, params)["lone"].sharding.spec == P(None, "x")
