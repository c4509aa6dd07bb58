"""Flops and bytes that are known by hand, in programs with loops, branches and collectives."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gradsmith.observe.hlo import count

SQUARE = jax.ShapeDtypeStruct((16, 16), jnp.float32)
PRODUCT = 2 * 16**3


def counts(f, *args):
    return count(jax.jit(f).lower(*args).compile().as_text())


def test_a_product_is_twice_its_multiplications():
    x, y = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 5, 7), (3, 7, 11)))
    assert counts(lambda x, y: x @ y, x, y).flops == 2 * 3 * 5 * 7 * 11


def test_a_complex_product_is_four_real_ones():
    assert (
        counts(lambda x: x @ x, jax.ShapeDtypeStruct((16, 16), jnp.complex64)).flops == 4 * PRODUCT
    )


@pytest.mark.parametrize("turns", [1, 5, 40])
def test_a_loop_counts_every_turn(turns):
    loop = lambda x: jax.lax.fori_loop(0, turns, lambda i, y: jnp.tanh(y @ x), x)
    assert counts(loop, SQUARE).flops == turns * PRODUCT
    assert counts(loop, SQUARE).exact


def test_a_loop_within_a_loop_multiplies():
    inner = lambda x: jax.lax.fori_loop(0, 5, lambda i, y: jnp.tanh(y @ x), x)
    outer = lambda x: jax.lax.fori_loop(0, 7, lambda i, y: inner(y), x)
    assert counts(outer, SQUARE).flops == 35 * PRODUCT


def test_a_loop_of_unknown_length_is_a_lower_bound():
    loop = lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y @ y, x)
    assert counts(loop, SQUARE).flops == PRODUCT
    assert not counts(loop, SQUARE).exact


def test_of_two_branches_the_dearer_one_counts():
    branch = lambda x: jax.lax.cond(x[0, 0] > 0, lambda: jnp.tanh(x @ x) @ x, lambda: x)
    assert counts(branch, SQUARE).flops == 2 * PRODUCT


@pytest.mark.parametrize(
    ("collective", "received"),
    [
        (lambda x: jax.lax.all_gather(x, "x", tiled=True), 7 * 2 * 16 * 4),
        (lambda x: jax.lax.all_to_all(x, "x", 1, 0, tiled=True), 7 / 8 * 2 * 16 * 4),
        (lambda x: jax.lax.psum(x, "x"), 2 * 7 / 8 * 2 * 16 * 4),
        (lambda x: jax.lax.psum_scatter(x, "x", scatter_dimension=1, tiled=True), 7 * 2 * 2 * 4),
        (lambda x: jax.lax.ppermute(x, "x", [(i, (i + 1) % 8) for i in range(8)]), 2 * 16 * 4),
    ],
    ids=["all-gather", "all-to-all", "all-reduce", "reduce-scatter", "collective-permute"],
)
def test_bytes_received_from_others(collective, received, request):
    """Each device has two rows of sixteen numbers of four bytes."""
    mesh = jax.make_mesh((8,), ("x",))
    x = jax.ShapeDtypeStruct((16, 16), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    mapped = jax.shard_map(
        collective, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False
    )
    (found,) = counts(mapped, x).collectives.values()
    assert found.kind == request.node.callspec.id
    assert (found.count, found.received) == (1, received)


@pytest.mark.parametrize(("axis", "others"), [("x", 1), ("y", 3)])
def test_a_collective_along_one_axis_of_two_counts_its_group(axis, others):
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    x = jax.ShapeDtypeStruct((16, 16), jnp.float32, sharding=NamedSharding(mesh, P("x", "y")))
    gather = lambda x: jax.lax.all_gather(x, axis)
    mapped = jax.shard_map(gather, mesh=mesh, in_specs=P("x", "y"), out_specs=P(), check_vma=False)
    (found,) = counts(mapped, x).collectives.values()
    assert found.received == others * 8 * 4 * 4


def test_a_collective_in_a_loop_counts_every_turn():
    mesh = jax.make_mesh((8,), ("x",))
    x = jax.ShapeDtypeStruct((16, 16), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    step = lambda i, y: jnp.tanh(jax.lax.all_to_all(y, "x", 1, 1, tiled=True))
    loop = lambda x: jax.lax.fori_loop(0, 3, step, x)
    mapped = jax.shard_map(loop, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False)
    assert counts(mapped, x).collectives["all-to-all"].count == 3
