"""The rule and the transformation do what the function does, and refuse nonsense when built."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, unchecked_annotations

import gradsmith as gs
from gradsmith.transforms.orthogonalize import orthogonalize_tree


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
    rule = gs.orthogonalize(**arguments)
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
        gs.orthogonalize(**arguments)
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        orthogonalize_tree(**arguments)


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
    tree = orthogonalize_tree(**arguments, postprocess=then, axes=axes)
    rule = gs.per_stack(optax.chain(gs.orthogonalize(**arguments), then), axes=axes)
    updates, _ = jax.jit(tree.update)(grads, tree.init(grads))
    expected, _ = rule.update(grads, rule.init(grads))
    # Both forms of Newton-Schulz meet here, so it is rounding and its growth by up to 1e3. Where a
    # choice by size is made, the two may take different methods of the accuracy that was asked.
    atol = 2 * arguments.get("max_error", 1e-4)
    for name in shapes:
        np.testing.assert_allclose(updates[name], expected[name], atol=atol)


def test_the_default_never_gathers_the_matrices():
    grads = {str(i): jnp.ones((4, 50)) for i in range(3)}
    tx = orthogonalize_tree()
    assert list(tx.init(grads).buckets) == ["3x4x4 float32"]
