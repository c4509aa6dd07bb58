"""Flops and bytes that are known by hand, in programs with loops, branches and collectives."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs
from gradsmith.xla.program.counts import count

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


@pytest.mark.parametrize("rounds", [1, 5, 40])
def test_a_loop_counts_every_round(rounds):
    loop = lambda x: jax.lax.fori_loop(0, rounds, lambda i, y: jnp.tanh(y @ x), x)
    assert counts(loop, SQUARE).flops == rounds * PRODUCT
    assert counts(loop, SQUARE).exact


def test_a_loop_within_a_loop_multiplies():
    inner = lambda x: jax.lax.fori_loop(0, 5, lambda i, y: jnp.tanh(y @ x), x)
    outer = lambda x: jax.lax.fori_loop(0, 7, lambda i, y: inner(y), x)
    assert counts(outer, SQUARE).flops == 35 * PRODUCT


def test_flops_are_told_apart_by_what_the_products_were_asked_for():
    def f(x):
        twice = lambda _, y: jnp.matmul(x, y, precision="high")
        return jax.lax.fori_loop(0, 3, twice, x), jnp.matmul(x, x, precision="highest"), x @ x.T

    one = 2 * 16**3
    assert counts(f, jnp.ones((16, 16))).precisions == {
        "high": 3 * one,
        "highest": one,
        "default": one,
    }


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


def test_a_collective_in_a_loop_counts_every_round():
    mesh = jax.make_mesh((8,), ("x",))
    x = jax.ShapeDtypeStruct((16, 16), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    step = lambda i, y: jnp.tanh(jax.lax.all_to_all(y, "x", 1, 1, tiled=True))
    loop = lambda x: jax.lax.fori_loop(0, 3, step, x)
    mapped = jax.shard_map(loop, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False)
    assert counts(mapped, x).collectives["all-to-all"].count == 3


def gpu_program(body):
    """The text of a program as XLA prints those for GPUs, written by hand: nothing runs here."""
    return f"""HloModule jit_f, is_scheduled=true, num_partitions=1

ENTRY %main.1 (p.1: f32[5,8,16], q.1: f32[5,16,32]) -> f32[5,8,32] {{
  %p.1 = f32[5,8,16]{{2,1,0}} parameter(0)
  %q.1 = f32[5,16,32]{{2,1,0}} parameter(1)
{body}
}}
"""


def gemm(target, result="(f32[5,8,32]{2,1,0}, s8[4194304]{0})", operands="%p.1, %q.1"):
    dimensions = (
        '"lhs_contracting_dimensions":["2"],"rhs_contracting_dimensions":["1"],'
        '"lhs_batch_dimensions":["0"],"rhs_batch_dimensions":["0"]'
    )
    return (
        f'  %gemm.1 = {result} custom-call({operands}), custom_call_target="{target}", '
        'backend_config={"operation_queue_id":"0","gemm_backend_config":{"alpha_real":1,"beta":0,'
        f'"dot_dimension_numbers":{{{dimensions}}},"precision_config":{{"operand_precision":'
        '["DEFAULT","DEFAULT"],"algorithm":"ALG_UNSET"},"epilogue":"DEFAULT"}}'
    )


@pytest.mark.parametrize(
    ("target", "operands"),
    [
        ("__cublas$gemm", "%p.1, %q.1"),
        ("__cublas$lt$matmul", "%p.1, %q.1, %bias.1"),
        ("__cublas$lt$matmul$f8", "%p.1, %q.1, %scale.1, %scale.2"),
        ("__cublas$gemm", "f32[5,8,16]{2,1,0} %p.1, f32[5,16,32]{2,1,0} %q.1"),
    ],
)
def test_a_product_by_cublas_counts(target, operands):
    """The workspace behind the result counts nothing."""
    found = count(gpu_program(gemm(target, operands=operands)))
    assert (found.flops, found.exact) == (2 * 5 * 8 * 16 * 32, True)


def test_a_complex_product_by_cublas_is_four_real_ones():
    text = gpu_program(gemm("__cublas$gemm", "(c64[5,8,32]{2,1,0}, s8[4096]{0})"))
    assert count(text).flops == 4 * 2 * 5 * 8 * 16 * 32


def stored(name):
    """The text of a program in tests/hlo, written by hand as XLA prints those for GPUs."""
    return (Path(__file__).parent / "hlo" / f"{name}.txt").read_text()


def test_a_product_by_cublas_in_a_loop_counts_every_round():
    found = count(stored("gpu_loop"))
    assert found.flops == 7 * PRODUCT
    assert found.calls == {"__cublas$gemm": 7}


def test_a_product_that_triton_fuses_counts():
    found = count(stored("gpu_triton"))
    assert found.flops == 2 * 5 * 8 * 16 * 32
    assert found.calls == {"__triton_gemm": 1}


@pytest.mark.parametrize(
    "target", ["__cudnn$convForward", "__cudnn$fmhaSoftmax", "cusolver_syevd_ffi", "mine"]
)
def test_what_cannot_be_counted_is_named_and_makes_a_lower_bound(target):
    call = (
        "  %conv.1 = (f32[10,30,30,40]{3,2,1,0}, u8[0]{0}) custom-call(%x.1, %y.1), "
        "window={size=2x2}, dim_labels=b01f_01io->b01f, "
        f'custom_call_target="{target}", backend_config={{"cudnn_conv_backend_config":{{}}}}'
    )
    found = count(gpu_program(f"{gemm('__cublas$gemm')}\n{call}"))
    assert (found.flops, found.exact) == (2 * 5 * 8 * 16 * 32, False)
    assert found.uncounted == {target}


def test_a_call_that_only_moves_or_sorts_is_exact():
    call = (
        "  %sort.1 = (f32[64]{0}, u8[1279]{0}) custom-call(%x.1), "
        'custom_call_target="__cub$DeviceRadixSort"'
    )
    found = count(gpu_program(call))
    assert found.exact
    assert not found.calls


def test_the_decompositions_of_lapack_are_named():
    eigh = lambda x: jnp.linalg.eigh(x @ x.T)
    found = counts(eigh, SQUARE)
    assert found.flops == PRODUCT
    assert [re.sub("_ffi$", "", name) for name in found.uncounted] == ["lapack_ssyevd"]


def test_the_cost_of_an_update_says_what_is_not_counted():
    cost = gs.update_cost(gs.per_gram(lambda grams: jnp.linalg.eigh(grams)[1]), {"w": SQUARE})
    assert cost.uncounted == ("lapack_ssyevd_ffi",)
    assert not cost.flops_exact
    assert "what lapack_ssyevd_ffi takes is not counted" in " ".join(str(cost).split())
