import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradsmith.xla.chunks import in_chunks

BYTES = 2 * 3 * 4  # of one matrix


@pytest.mark.parametrize(
    ("k", "limit", "seen"),
    [
        (6, 6 * BYTES, {(6, 2, 3)}),
        (6, 6 * BYTES - 1, {(3, 2, 3)}),
        (6, 2 * BYTES, {(2, 2, 3)}),
        (7, 6 * BYTES, {(4, 2, 3), (3, 2, 3)}),
        (7, 3 * BYTES, {(3, 2, 3), (2, 3)}),
        (97, 32 * BYTES, {(25, 2, 3), (22, 2, 3)}),
        (6, 0, {(2, 3)}),
        (1, 100 * BYTES, {(2, 3)}),
    ],
)
def test_a_function_gets_as_many_matrices_as_fit_in_nearly_equal_chunks(k, limit, seen):
    x, weights = np.arange(k * 6.0, dtype=np.float32).reshape(k, 2, 3), np.arange(1.0 * k)
    shapes = []

    def scale(x, weight):
        shapes.append(x.shape)
        return x * weight.reshape(*weight.shape, 1, 1)

    out = in_chunks(scale, limit, jnp.asarray(x), jnp.asarray(weights, jnp.float32))
    np.testing.assert_array_equal(out, x * weights[:, None, None])
    assert set(shapes) == seen


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


def test_no_matrices_are_no_chunks():
    assert in_chunks(jnp.negative, 100, jnp.ones((0, 2, 3))).shape == (0, 2, 3)


K, SIZES = 7, pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
"""Seven matrices; the last chunk is smaller for 2, 3 and 4."""


def stacks_and_rates(seed=0):
    rng = np.random.default_rng(seed)
    array = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    return (array(K, 3, 3), array(K, 2)), array(K)


def rotate_and_average(pair, rate):
    x, mean = pair
    rate = rate[..., None, None] if rate.ndim else rate
    rotated = jnp.sin(x) @ x
    return rate * rotated, mean + jnp.sum(x, -1)[..., :2]


def run(size, pair, rates):
    return in_chunks(rotate_and_average, size * (9 + 2) * 4, pair, rates)


def close(got, expected):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), got, expected)


@SIZES
def test_chunks_change_nothing(size):
    arguments = stacks_and_rates()
    close(run(size, *arguments), rotate_and_average(*arguments))


@SIZES
def test_chunks_change_no_derivative(size):
    """Both ways, and the one of the other; what is differentiated at once is the oracle."""
    arguments, direction = stacks_and_rates(), stacks_and_rates(1)
    chunked = lambda *a: run(size, *a)
    close(*(jax.jvp(f, arguments, direction)[1] for f in (chunked, rotate_and_average)))

    def total(f):
        return lambda *a: sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(f(*a)))

    gradients = [jax.grad(total(f), (0, 1)) for f in (chunked, rotate_and_average)]
    close(*(gradient(*arguments) for gradient in gradients))
    close(*(jax.jvp(gradient, arguments, direction)[1] for gradient in gradients))


@SIZES
def test_chunks_of_a_batch_are_those_of_its_members_and_slices(size):
    members = [stacks_and_rates(seed) for seed in range(3)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *members)
    mapped = jax.vmap(lambda pair, rates: run(size, pair, rates))
    expected = [rotate_and_average(*member) for member in members]
    close(mapped(*batch), jax.tree.map(lambda *x: jnp.stack(x), *expected))
    text = jax.jit(mapped).lower(*batch).compile().as_text()
    assert " gather(" not in text
    assert " scatter(" not in text
    only_rates = jax.vmap(lambda pair, rates: run(size, pair, rates), (None, 0))
    expected = [rotate_and_average(members[0][0], rates) for _, rates in members]
    close(only_rates(members[0][0], batch[1]), jax.tree.map(lambda *x: jnp.stack(x), *expected))


@pytest.mark.parametrize("varies", ["the stacks", "what is given", "what is closed over"])
def test_chunks_may_differ_between_the_devices_of_a_shard_map(varies):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    same, differs = jnp.ones((K, 2, 2)), jnp.arange(2.0 * K * 4).reshape(2 * K, 2, 2)

    def on_a_device(x):
        if varies == "the stacks":
            return in_chunks(lambda x, y: x * y, 3 * 4 * 4, x, same)
        if varies == "what is given":
            return in_chunks(lambda y, x: x * y, 3 * 4 * 4, same, x)
        return in_chunks(lambda y: y * x[0, 0, 0], 3 * 4 * 4, same)

    spec = jax.P("x")
    got = jax.jit(jax.shard_map(on_a_device, mesh=mesh, in_specs=spec, out_specs=spec))(differs)
    first = np.repeat(np.asarray(differs)[[0, K], 0, 0], K)[:, None, None] + np.zeros((1, 2, 2))
    np.testing.assert_array_equal(got, first if varies == "what is closed over" else differs)


@pytest.mark.parametrize("chunk", [1, 3], ids=["equal chunks", "a smaller last chunk"])
def test_no_chunk_copies_the_stacks(chunk):
    """What a chunk reads twice and puts back was copied whole for each of them."""
    stack = jax.ShapeDtypeStruct((8, 64, 64), jnp.float32)
    one = 64 * 64 * 4

    def step(moving):
        x, mean = moving
        rotated = x @ x
        mean = 0.9 * mean + 0.1 * rotated
        return (rotated / jnp.sqrt(1 + mean * mean)) @ x, mean

    def update(moving):
        return in_chunks(step, 2 * chunk * one, moving)

    compiled = jax.jit(update, donate_argnums=0).lower((stack, stack)).compile()
    text = compiled.as_text()
    assert "dynamic-update-slice" in text
    assert "conditional(" in text  # XLA does not find out that the condition is always true
    assert "= f32[8,64,64]{2,1,0} copy(" not in text
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 7 * chunk * one  # 11 of a matrix where stacks are copied
