"""What is held changes nothing, waits in the compiled program, and stands in no way of JAX."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from overridden import overridden

from gradsmith.xla.order import hold, places_before


@pytest.mark.parametrize("first", [np.nan, np.inf, -np.inf, -3e9, -7.0, 0.0, 41.0, 3e9])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64], ids=str)
def test_what_is_held_is_the_same_after_whatever_result(first, dtype):
    until = jnp.full((2, 3), first, dtype)
    held = jax.jit(hold)((jnp.int32(5), jnp.array([2.5, np.nan])), until)
    assert held[0] == 5
    np.testing.assert_array_equal(held[1], np.float32([2.5, np.nan]))


def test_nothing_is_held_where_there_is_nothing_to_wait_for():
    value = jnp.ones(3)
    assert hold(value, None) is value
    assert hold(value, jnp.ones((0, 4))) is value
    with overridden(forces_order=False):
        assert hold(value, jnp.ones(3)) is value


@pytest.mark.parametrize("first", [np.nan, np.inf, -3e9, 0.0, 41.0, 3e9])
def test_places_are_those_of_stacks_one_before_the_other(first):
    run = jax.jit(lambda until: list(places_before(9, [1, 3, 2], until)))
    assert run(jnp.full((2, 3), first)) == [8, 5, 3]
    with overridden(forces_order=False):
        assert list(places_before(9, [1, 3, 2], jnp.ones(3))) == [8, 5, 3]


def slices(places, x):
    """Return the kernels of a compiled program that take matrices at these places."""

    def taken(x, stack):
        return [2 * jax.lax.dynamic_slice_in_dim(stack, at, 1) for at in places(jnp.sin(x))]

    text = jax.jit(taken).lower(x, jnp.zeros((6, 4, 4))).compile().as_text()
    kernels = text[: text.index("ENTRY")].split("\n\n")
    names = r"%[^ ,)]+|param_[\d.]+|metadata=.*"
    return {re.sub(names, "", kernel).strip() for kernel in kernels if "slice(" in kernel}


def test_what_slices_at_these_places_is_compiled_once():
    x = jnp.ones((2, 3))
    assert len(slices(lambda until: places_before(6, [1] * 6, until), x)) == 1
    assert len(slices(lambda until: [hold(jnp.int32(i), until) for i in range(6)], x)) == 6


def test_what_is_held_depends_on_the_result_in_the_compiled_program():
    run = jax.jit(lambda x: hold(5, jnp.sin(x)))
    shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert "sine" in run.lower(shape).compile().as_text()
    with overridden(forces_order=False):
        assert "sine" not in run.lower(shape).compile().as_text()


def placed(x, values):
    """Put a row where a place says that is held until something of `x` is there."""
    at = hold(jnp.int32(1), jnp.sin(x))
    return jax.lax.dynamic_update_slice_in_dim(values, x[:1], at, 0)


def test_under_vmap_a_place_stays_one_place():
    """A place of its own for each of the batch would make gathers and scatters of slices."""
    x, values = jnp.arange(12.0).reshape(3, 4), jnp.zeros((3, 4))
    text = jax.jit(jax.vmap(placed)).lower(x, values).compile().as_text()
    assert " dynamic-update-slice(" in text
    assert " scatter(" not in text
    expected = np.zeros((3, 4))
    expected[:, 1] = np.arange(12.0).reshape(3, 4)[:, 0]
    np.testing.assert_array_equal(jax.jit(jax.vmap(placed))(x, values), expected)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.vmap, jax.jit], ids=["one", "vmap", "jit"])
def test_derivatives_pass_through(wrap):
    x, values = jnp.arange(1.0, 13.0).reshape(3, 4), jnp.zeros((3, 4))
    loss = lambda x: jnp.sum(wrap(placed)(x, values) ** 2)
    expected = np.zeros((3, 4))
    rows = np.arange(1.0, 13.0).reshape(3, 4)
    if wrap is jax.vmap:
        expected[:, 0] = 2 * rows[:, 0]
    else:
        expected[0] = 2 * rows[0]
    np.testing.assert_array_equal(jax.grad(loss)(x), expected)
    np.testing.assert_allclose(jax.jvp(loss, (x,), (jnp.ones_like(x),))[1], expected.sum())
    np.testing.assert_allclose(jax.hessian(loss)(x).sum(), expected.astype(bool).sum() * 2)
