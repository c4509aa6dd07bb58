import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings

from gradsmith.layout.bucket import plan_buckets

shapes = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), max_size=8)


@given(shapes)
@settings(deadline=None, max_examples=50)
def test_scatter_undoes_gather(shapes):
    stacks = [
        jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape) + 100 * index
        for index, shape in enumerate(shapes)
    ]
    back = {}
    for bucket in plan_buckets(shapes):
        gathered = bucket.gather(stacks, jnp.float32)
        assert gathered.shape == bucket.shape
        back |= bucket.scatter(gathered)
    assert sorted(back) == list(range(len(stacks)))
    for index, stack in enumerate(stacks):
        np.testing.assert_array_equal(back[index], stack)


def test_equal_matrices_share_a_bucket_and_transposes_do_not():
    buckets = plan_buckets([(1, 2, 3), (4, 2, 3), (1, 3, 2)])
    assert [bucket.name for bucket in buckets] == ["5x2x3", "1x3x2"]
    assert buckets[0].members == (0, 1)


def test_a_bucket_converts_to_the_asked_dtype():
    stacks = [jnp.ones((1, 2, 2), jnp.bfloat16), jnp.ones((1, 2, 2), jnp.float32)]
    (bucket,) = plan_buckets([stack.shape for stack in stacks])
    assert bucket.gather(stacks, jnp.float32).dtype == jnp.float32


def test_parts_are_members_in_a_row_of_up_to_a_size():
    (bucket,) = plan_buckets([(2, 3, 3), (1, 3, 3), (4, 3, 3), (1, 3, 3)])
    parts = bucket.parts([20, 10, 40, 10], 30)
    assert [part.members for part in parts] == [(0, 1), (2,), (3,)]
    assert [part.shape for part in parts] == [(3, 3, 3), (4, 3, 3), (1, 3, 3)]
    assert bucket.parts([20, 10, 40, 10], 80) == [bucket]
