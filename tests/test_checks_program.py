"""Two programs are the same when every equation and every captured array is, however deep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradsmith.checks.program import captured, equations, same_program

TABLE = np.arange(6, dtype=np.float32)


def plain(table, x):
    return x * jnp.asarray(table)


def in_a_jit(table, x):
    return jax.jit(lambda y: y * jnp.asarray(table))(x)


def in_two_jits(table, x):
    return jax.jit(lambda y: in_a_jit(table, y))(x)


def in_a_scan(table, x):
    return jax.lax.scan(lambda y, _: (in_a_jit(table, y), None), x, length=2)[0]


def in_a_branch(table, x):
    return jax.lax.cond(x[0] > 0, lambda y: in_a_jit(table, y), lambda y: y, x)


def in_a_while(table, x):
    return jax.lax.while_loop(lambda y: y[0] > 9, lambda y: in_a_jit(table, y), x)


def under_a_custom_derivative(table, x):
    rule = jax.custom_vjp(lambda y: in_a_jit(table, y))
    rule.defvjp(lambda y: (rule(y), None), lambda _, g: (g,))
    return rule(x)


PLACES = [
    plain, in_a_jit, in_two_jits, in_a_scan, in_a_branch, in_a_while, under_a_custom_derivative,
]  # fmt: skip


def trace(place, table, x=TABLE):
    return jax.make_jaxpr(lambda x: place(table, x))(x)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_an_array_is_compared_by_value_wherever_it_was_captured(place):
    assert same_program(trace(place, TABLE), trace(place, TABLE.copy()))
    assert not same_program(trace(place, TABLE), trace(place, TABLE + 1))


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_every_captured_array_is_found(place):
    assert any(np.array_equal(array, TABLE) for array in captured(trace(place, TABLE)))


def test_programs_of_other_equations_or_other_wires_differ():
    x = jnp.ones(3)
    trace = jax.make_jaxpr(lambda x, y: (x - y) * y)(x, x)
    for other in (lambda x, y: (y - x) * y, lambda x, y: (x - y) * x, lambda x, y: (x + y) * y):
        assert not same_program(trace, jax.make_jaxpr(other)(x, x))


def test_equations_inside_calls_are_counted():
    names = [equation.primitive.name for equation in equations(trace(in_a_scan, TABLE))]
    assert names == ["scan", "jit", "mul"]


def test_a_nan_in_a_program_is_the_same_as_itself():
    trace = lambda: jax.make_jaxpr(lambda x: jnp.where(x > 0, x, jnp.nan))(jnp.ones(3))
    assert same_program(trace(), trace())


def test_a_rule_for_vmap_made_anew_changes_no_program():
    def traced(factor):
        @jax.custom_batching.custom_vmap
        def scale(x):
            return x * factor

        @scale.def_vmap
        def rule(size, batched, x):
            return x * factor, batched[0]

        return jax.make_jaxpr(scale)(1.0)

    assert same_program(traced(2.0), traced(2.0))
    assert not same_program(traced(2.0), traced(3.0))
