import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradsmith.xla.chunks import in_chunks

BYTES = 2 * 3 * 4  # of one matrix


@pytest.mark.parametrize(
    ("k", "limit", "seen"),
    [
        (6, 6 * BYTES, (6, 2, 3)),
        (6, 6 * BYTES - 1, (3, 2, 3)),
        (6, 2 * BYTES, (2, 2, 3)),
        (7, 6 * BYTES, (2, 3)),
        (6, 0, (2, 3)),
        (1, 100 * BYTES, (2, 3)),
    ],
)
def test_a_function_gets_as_many_matrices_as_fit_and_divide(k, limit, seen):
    x, weights = np.arange(k * 6.0, dtype=np.float32).reshape(k, 2, 3), np.arange(1.0 * k)
    shapes = []

    def scale(x, weight):
        shapes.append(x.shape)
        return x * weight.reshape(*weight.shape, 1, 1)

    out = in_chunks(scale, limit, jnp.asarray(x), jnp.asarray(weights, jnp.float32))
    np.testing.assert_array_equal(out, x * weights[:, None, None])
    assert set(shapes) == {seen}


def test_all_leaves_of_a_stack_count_and_move():
    pair = (jnp.ones((4, 2, 3)), jnp.ones((4, 5)))
    shapes = []

    def step(pair):
        shapes.append([x.shape for x in pair])
        return pair[0] + 1, pair[1] * 2

    first, second = in_chunks(step, 2 * (6 + 5) * 4, pair)
    np.testing.assert_array_equal(first, np.full((4, 2, 3), 2.0))
    np.testing.assert_array_equal(second, np.full((4, 5), 2.0))
    assert shapes[0] == [(2, 2, 3), (2, 5)]


def test_no_matrices_are_no_turns():
    assert in_chunks(jnp.negative, 100, jnp.ones((0, 2, 3))).shape == (0, 2, 3)


def test_no_turn_copies_the_stacks():
    """What a turn reads twice and puts back was copied whole in each of them."""
    stack = jax.ShapeDtypeStruct((8, 64, 64), jnp.float32)

    def step(moving):
        x, mean = moving
        turned = x @ x
        mean = 0.9 * mean + 0.1 * turned
        return (turned / jnp.sqrt(1 + mean * mean)) @ x, mean

    run = jax.jit(lambda moving: in_chunks(step, 0, moving), donate_argnums=0)
    text = run.lower((stack, stack)).compile().as_text()
    assert "dynamic-update-slice" in text
    assert "= f32[8,64,64]{2,1,0} copy(" not in text
