"""The number that is known only after a result, and the programs that it orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from overridden import overridden

from gradsmith.xla.order import known_after


@pytest.mark.parametrize("first", [np.nan, np.inf, -np.inf, -3e9, -7.0, 0.0, 41.0, 3e9])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64], ids=str)
def test_the_number_is_the_same_after_whatever_result(first, dtype):
    result = jnp.full((2, 3), first, dtype)
    assert jax.jit(known_after)(5, result) == 5
    assert jax.jit(known_after)(0, result) == 0


def test_a_number_waits_for_nothing_where_there_is_nothing():
    assert known_after(3, jnp.ones((0, 4))) == 3


@pytest.mark.parametrize("forces_order", [True, False])
def test_the_compiled_program_has_the_result_before_the_number_if_order_is_forced(forces_order):
    with overridden(forces_order=forces_order):
        run = jax.jit(lambda x: known_after(5, jnp.sin(x)))
        text = run.lower(jax.ShapeDtypeStruct((2, 3), jnp.float32)).compile().as_text()
    assert ("sine" in text) == forces_order


def chain(stack):
    """The sum of four functions of one array, each made after the one before has been summed."""
    total, start = jnp.float32(0), jnp.int32(0)
    for rate in range(1, 5):
        part = jax.lax.dynamic_slice_in_dim(stack, start, 1, 0)[0]
        square = jnp.cos(rate * part) @ jnp.sin(rate * part)
        total = total + jnp.sum(square @ square)
        start = known_after(start, total[None])
    return total


@pytest.mark.parametrize(("forces_order", "matrices"), [(True, 2), (False, 8)])
def test_the_compiled_program_has_one_part_in_memory_at_a_time_if_order_is_forced(
    forces_order, matrices
):
    """XLA for CPUs would make the first products of all parts before it needs any of them."""
    with overridden(forces_order=forces_order):
        lowered = jax.jit(chain).lower(jax.ShapeDtypeStruct((4, 64, 64), jnp.float32))
        compiled = lowered.compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert round(memory.temp_size_in_bytes / (4 * 64 * 64)) == matrices


def test_the_number_of_a_batch_is_one_number_known_after_all_results():
    stacks = jnp.arange(2.0 * 4 * 3 * 3).reshape(2, 4, 3, 3)
    mapped = jax.vmap(chain)
    np.testing.assert_allclose(mapped(stacks), [chain(stack) for stack in stacks], rtol=1e-5)
    text = jax.jit(mapped).lower(stacks).compile().as_text()
    assert " gather(" not in text
    assert "dynamic-slice(" in text
    numbers = jax.vmap(known_after)(jnp.arange(2), jnp.ones((2, 3)))
    np.testing.assert_array_equal(numbers, [0, 1])


def test_order_has_no_part_in_derivatives():
    """The oracle is the sum as it stands, of the first matrix alone."""

    def plain(stack):
        squares = [jnp.cos(r * stack[0]) @ jnp.sin(r * stack[0]) for r in range(1, 5)]
        return sum(jnp.sum(square @ square) for square in squares)

    stack = jnp.arange(4.0 * 3 * 3).reshape(4, 3, 3) / 10
    for gradient in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(gradient(chain)(stack), gradient(plain)(stack), atol=1e-4)
    batch = jnp.stack([stack, stack])
    np.testing.assert_allclose(
        jax.vmap(jax.grad(chain))(batch), jnp.stack([jax.grad(plain)(stack)] * 2), atol=1e-4
    )
