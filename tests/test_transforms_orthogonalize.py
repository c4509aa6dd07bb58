"""The rule does to a stack what the function does, and refuses nonsense when it is built."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, unchecked_annotations

import gradsmith as gs


@pytest.mark.parametrize(
    "arguments",
    [{}, {"method": "svd"}, {"coefficients": "you"}, {"steps": 2}, {"eps": 0.5}],
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
    ],
    ids=str,
)
def test_nonsense_is_refused_when_the_rule_is_built(arguments, message):
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        gs.orthogonalize(**arguments)
