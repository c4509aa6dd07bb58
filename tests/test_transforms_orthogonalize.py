"""The transformation and the rule do what the function does, and refuse nonsense when built."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, newton_schulz_loop, unchecked_annotations

import gradsmith as gs


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"method": "svd"},
        {"coefficients": "you"},
        {"steps": 2},
        {"eps": 0.5},
        {"max_error": 0.1},
    ],
    ids=str,
)
def test_the_rule_is_the_function_on_a_stack(arguments):
    stack = jnp.asarray(gaussian(3, 4, 6), jnp.float32)
    rule = gs.polar_factor(**arguments)
    state = rule.init(stack)
    assert state == optax.EmptyState()
    out, _ = rule.update(stack, state)
    np.testing.assert_array_equal(out, gs.matrix.orthogonalize(stack, **arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "cholesky"}, "no method is called 'cholesky'"),
        ({"coefficients": "jordan"}, "no schedule is called 'jordan'"),
        ({"coefficients": "you", "steps": 4}, "'you' is made for 5 steps"),
        ({"steps": 0}, "at least 1 step"),
        ({"method": "svd", "max_error": 0.1}, "omit method"),
    ],
    ids=str,
)
def test_nonsense_is_refused_when_the_rule_is_built(arguments, message):
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        gs.polar_factor(**arguments)
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        gs.orthogonalize(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"method": "svd"},
        {"method": "zolotarev"},
        {"coefficients": "polar_express"},
        {"steps": 12},
        {"eps": 1e-7},
        {"max_error": 0.32},
        {"max_error": 0.01},
        {"normalizer": "schatten4"},
    ],
    ids=str,
)
def test_the_transformation_of_a_tree_is_the_rule_on_each_of_its_matrices(arguments):
    shapes = {"wide": (8, 20), "tall": (20, 8), "square": (8, 8), "stack": (3, 8, 12)}
    grads = {name: jnp.asarray(gaussian(*shape), jnp.float32) for name, shape in shapes.items()}
    axes = {"stack": gs.MatrixAxes(-2, -1, batch_axis=0)}
    then = gs.scale_by_aspect_ratio()
    tree = gs.orthogonalize(**arguments, postprocess=then, axes=axes)
    rule = gs.per_stack(optax.chain(gs.polar_factor(**arguments), then), axes=axes)
    updates, _ = jax.jit(tree.update)(grads, tree.init(grads))
    expected, _ = rule.update(grads, rule.init(grads))
    # Both forms of Newton-Schulz meet here, so it is rounding and its growth by up to 1e3. Where a
    # choice by size is made, the two may take different methods of the accuracy that was asked.
    atol = 2 * arguments.get("max_error", 1e-4)
    for name in shapes:
        np.testing.assert_allclose(updates[name], expected[name], atol=atol)


def test_the_default_never_gathers_the_matrices():
    grads = {str(i): jnp.ones((4, 50)) for i in range(3)}

    def largest_gathered(tx):
        program = jax.make_jaxpr(lambda g: tx.update(g, tx.init(g))[0])(grads)
        gathers = ("concatenate", "dynamic_update_slice")
        gathered = [e for e in program.jaxpr.eqns if e.primitive.name in gathers]
        return max((out.aval.size for e in gathered for out in e.outvars), default=0)

    for eps in (0.0, 1e-7, jnp.float32(0.0)):
        assert largest_gathered(gs.orthogonalize(eps=eps)) <= 3 * 4 * 4
    assert largest_gathered(gs.orthogonalize("svd")) <= 3  # how large their entries are
    assert largest_gathered(gs.per_stack(gs.polar_factor("svd"))) == 3 * 4 * 50


def test_a_stack_for_the_transformation_is_refused_with_the_name_of_the_rule():
    with pytest.raises(ValueError, match=r"Inside per_stack use the rule gradsmith\.polar_factor"):
        gs.per_stack(gs.orthogonalize()).init({"kernel": jnp.ones((2, 3))})


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_traced_eps_of_zero_takes_the_road_of_the_default(scale):
    """Same state, same numbers at any scale; the matrices are not gathered."""
    grads = {str(i): scale * jnp.asarray(gaussian(4, 9, seed=i), jnp.float32) for i in range(3)}
    plain = gs.orthogonalize()
    traced = jax.jit(lambda eps, g: gs.orthogonalize(eps=eps).update(g, plain.init(g)))
    updates, state = traced(0.0, grads)
    expected, expected_state = jax.jit(plain.update)(grads, plain.init(grads))
    assert jax.tree.structure(state) == jax.tree.structure(expected_state)
    for name in grads:
        np.testing.assert_allclose(updates[name], expected[name], atol=1e-6)


def test_eps_is_in_the_units_of_each_matrix():
    """Against float64 NumPy, where matrices of very different lengths share a bucket."""
    eps = 1e-3
    grads = {
        "long": gaussian(4, 9),
        "short": 1e-3 * gaussian(9, 4, seed=1),
        "none": np.zeros((4, 5)),
    }
    tx = gs.orthogonalize(eps=eps)
    as_float32 = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), grads)
    updates, _ = jax.jit(tx.update)(as_float32, tx.init(as_float32))
    triples = [(3.4445, -4.7750, 2.0315)] * 5
    for name, g in grads.items():
        np.testing.assert_allclose(
            updates[name], newton_schulz_loop(g, triples, eps=eps), atol=1e-4
        )
