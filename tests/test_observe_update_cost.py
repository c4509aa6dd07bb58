"""What an update costs, against what a device must at least compute, receive and keep."""

import json

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs
from gradsmith.lift.per_gram import per_gram

SHAPES = {f"layer_{i}": (16, 32) for i in range(8)}
BYTES = 8 * 16 * 32 * 4


def spread(spec, sizes=(8,), shapes=SHAPES, kind=AxisType.Explicit):
    mesh = jax.make_mesh(sizes, ("x", "y")[: len(sizes)], axis_types=(kind,) * len(sizes))
    home = NamedSharding(mesh, spec)
    return {n: jax.ShapeDtypeStruct(s, jnp.float32, sharding=home) for n, s in shapes.items()}


@pytest.mark.parametrize(
    ("sizes", "spec"),
    [((8,), P("x")), ((8,), P(None, "x")), ((2, 4), P("x", "y")), ((2, 4), P(None, ("y", "x")))],
    ids=str,
)
def test_split_matrices_travel_once_each_way_and_work_is_divided(sizes, spec):
    cost = gs.update_cost(per_gram(lambda grams: grams @ grams), spread(spec, sizes))
    assert [(x.kind, x.count) for x in cost.collectives] == [("all-to-all", 2)]
    assert cost.received == cost.received_bound == 2 * BYTES / 8 * 7 / 8
    assert cost.flops == cost.flops_bound


def test_replicated_matrices_come_home_in_one_gather():
    cost = gs.update_cost(per_gram(lambda grams: grams @ grams), spread(P()))
    assert [(x.kind, x.count) for x in cost.collectives] == [("all-gather", 1)]
    assert cost.received == cost.received_bound == BYTES * 7 / 8
    assert cost.flops == cost.flops_bound


def test_a_matrix_replicated_along_one_axis_moves_along_the_other_first():
    """In: an eighth, a quarter of it there already. Back: a quarter, an eighth of it there."""
    cost = gs.update_cost(per_gram(lambda grams: grams @ grams), spread(P(None, "y"), (2, 4)))
    assert cost.received_bound == BYTES / 8 * 3 / 4 + BYTES / 4 * 7 / 8
    assert cost.received == cost.received_bound


def test_the_number_of_collectives_does_not_depend_on_the_iterations():
    few, many = (
        gs.update_cost(
            gs.per_stack(optax.stateless(lambda u, p, n=n: iterated(u, n))), spread(P("x"))
        )
        for n in (1, 9)
    )
    assert many.flops == 9 * few.flops
    assert many.collectives == few.collectives


def iterated(x, turns):
    return jax.lax.fori_loop(0, turns, lambda i, y: jnp.tanh(y @ (y.mT @ y)), x)


def test_a_transfer_in_16_bits_halves_the_bytes():
    whole, half = (
        gs.update_cost(
            gs.per_stack(optax.identity(), placement=gs.Owners(transfer_dtype=wire)), spread(P("x"))
        )
        for wire in (None, jnp.bfloat16)
    )
    assert half.received == whole.received / 2


def test_the_transposed_shape_saves_padding():
    """Four and four of eight: five owners of two would idle; together one matrix for each."""
    shapes = {f"in_{i}": (16, 32) for i in range(4)} | {f"out_{i}": (32, 16) for i in range(4)}
    params = spread(P("x"), shapes=shapes)
    together = gs.update_cost(per_gram(lambda grams: grams @ grams), params)
    apart = gs.update_cost(gs.per_stack(optax.stateless(lambda u, p: (u @ u.mT) @ u)), params)
    assert together.flops == together.flops_bound
    assert apart.flops == 2 * apart.flops_bound
    assert together.received == apart.received / 2


def test_state_and_parameters_are_those_of_one_device():
    cost = gs.update_cost(gs.scale_by_adam(), spread(P("x")))
    assert (cost.params, cost.state) == (BYTES // 8, 2 * BYTES // 8 + 4)
    assert cost.received == 0


def test_one_device_needs_no_mesh():
    params = {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32)}
    cost = gs.update_cost(gs.per_matrix(lambda x: x @ (x.T @ x)), params)
    assert (cost.mesh, cost.flops, cost.flops_bound) == ({}, 8192.0, 8192.0)
    assert "one device" in str(cost)


def test_json_has_everything():
    told = json.loads(
        gs.update_cost(gs.per_matrix(lambda x: x @ (x.T @ x)), spread(P("x"))).to_json()
    )
    assert told["mesh"] == {"x": 8}
    assert told["collectives"][0] == {"kind": "all-to-all", "count": 2, "received": 3584.0}


def test_strangers_on_auto_axes_are_measured_too(standard_promotion):
    params = spread(P("x"), shapes={"kernel": (16, 32)}, kind=AxisType.Auto)
    cost = gs.update_cost(optax.contrib.muon(0.1), params)
    assert cost.received > cost.received_bound


def test_parameters_on_different_meshes_are_refused():
    mixed = spread(P("x"), shapes={"a": (16, 32)}) | spread(P("x"), (4, 2), shapes={"b": (16, 32)})
    with pytest.raises(ValueError, match=r"different meshes: \['a'\] .* \['b'\]"):
        gs.update_cost(gs.scale_by_adam(), mixed)


def test_what_is_no_array_is_left_out():
    params = {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32)}
    tx = gs.per_matrix(lambda x: x @ (x.T @ x))
    assert gs.update_cost(tx, {**params, "act": jax.nn.relu}) == gs.update_cost(tx, params)


def test_flops_and_bytes_are_told_by_bucket():
    """Sixteen matrices of 16 x 32, sixteen of 8 x 8: two of each for each of eight devices."""
    shapes = {f"{m}x{n}_{i}": (m, n) for i in range(16) for m, n in ((16, 32), (8, 8))}
    cost = gs.update_cost(per_gram(lambda grams: grams @ grams), spread(P("x"), shapes=shapes))
    found = {one.name: one for one in cost.buckets}
    assert set(found) == {"16x16x32", "16x8x8"}
    assert found["16x16x32"].flops == 2 * (2 * 16 * 16 * 32 + 2 * 16**3 + 2 * 16 * 16 * 32)
    assert found["16x8x8"].flops == 2 * 3 * 2 * 8**3
    assert found["16x16x32"].received == 2 * 2 * BYTES / 8 * 7 / 8
    assert found["16x8x8"].received == 2 * 2 * 8 * 8 * 4 * 7 / 8
    for one in found.values():
        assert [(x.kind, x.count) for x in one.collectives] == [("all-to-all", 2)]
    assert sum(one.flops for one in cost.buckets) == cost.flops
    assert sum(one.received for one in cost.buckets) == cost.received


def test_buckets_that_share_a_rule_share_its_flops():
    shapes = {"a": (16, 32), "b": (48, 16)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    cost = gs.update_cost(per_gram(lambda grams: iterated(grams, 5)), params)
    found = {one.name: one.flops for one in cost.buckets}
    assert found["1x16x32+1x16x48"] == 2 * 5 * 2 * 2 * 16**3
    assert found.get("1x16x48", 0) <= 2 * 2 * 16 * 16 * 48  # XLA for CPUs folds a transpose
    assert sum(found.values()) == cost.flops


def test_what_is_in_no_bucket_is_told_apart():
    step = optax.stateless_with_tree_map(lambda g, p: g @ g)
    tx = optax.chain(gs.per_matrix(lambda x: x @ x), step)
    cost = gs.update_cost(tx, {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32)})
    assert {one.name: one.flops for one in cost.buckets} == {"1x8x8": 2 * 8**3, "": 2 * 8**3}
    adam = gs.update_cost(gs.scale_by_adam(), {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32)})
    assert adam.buckets == ()


def test_names_of_buckets_change_no_program():
    params = {"w": jnp.ones((8, 16))}
    tx = per_gram(lambda grams: grams @ grams)
    text = jax.jit(tx.update).lower(params, tx.init(params)).as_text()
    assert "bucket_" not in text
