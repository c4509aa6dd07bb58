import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

from gradsmith import MatrixAxes
from gradsmith.lifting.axes import declare, matrix_leaves


@st.composite
def shapes_and_axes(draw):
    """A shape, and its axes dealt out to three sides in any order, some counted from the end."""
    rank = draw(st.integers(2, 5))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    order = draw(st.permutations(range(rank)))
    first = draw(st.integers(1, rank - 1))
    second = draw(st.integers(first + 1, rank))
    signed = [axis - rank if draw(st.booleans()) else axis for axis in order]
    return shape, (signed[:first], signed[first:second], signed[second:])


@given(shapes_and_axes())
@settings(deadline=None, max_examples=100)
def test_join_undoes_split(case):
    shape, sides = case
    axes = MatrixAxes(*map(tuple, sides))  # not in the strategy: beartype draws random numbers
    leaf = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    stack = axes.split(leaf)
    assert stack.shape == axes.stack_shape(shape)
    np.testing.assert_array_equal(axes.join(stack, shape), leaf)


def test_split_puts_fan_in_in_rows_whatever_the_order_of_the_array():
    flax = jnp.arange(6.0).reshape(2, 3)  # (in, out)
    equinox = flax.T  # (out, in)
    np.testing.assert_array_equal(MatrixAxes().split(flax)[0], flax)
    np.testing.assert_array_equal(MatrixAxes(in_axis=1, out_axis=0).split(equinox)[0], flax)


def test_split_of_stacked_layers_is_the_layers():
    layers = jnp.arange(24.0).reshape(4, 2, 3)
    axes = MatrixAxes(batch_axis=0)
    np.testing.assert_array_equal(axes.split(layers), layers)
    middle = MatrixAxes(in_axis=0, out_axis=2, batch_axis=1)
    np.testing.assert_array_equal(middle.split(layers)[1], layers[:, 1, :])


def test_several_axes_on_one_side_are_flattened_in_the_order_given():
    kernel = jnp.arange(24.0).reshape(2, 3, 4)  # (heads, head_dim, out)
    axes = MatrixAxes(in_axis=(0, 1), out_axis=2)
    np.testing.assert_array_equal(axes.split(kernel)[0], kernel.reshape(6, 4))


@pytest.mark.parametrize(
    "axes",
    [
        MatrixAxes(0, 0, 1),
        MatrixAxes(0, 1),
        MatrixAxes(0, 1, 5),
        MatrixAxes((), 0, (1, 2)),
    ],
    ids=str,
)
def test_axes_that_do_not_fit_are_refused_with_path_and_shape(axes):
    tree = {"block": {"kernel": jnp.zeros((2, 3, 4))}}
    with pytest.raises(ValueError, match=r"leaf 'block/kernel': MatrixAxes.*\(2, 3, 4\)"):
        matrix_leaves(axes, tree)


def test_axes_come_as_nothing_one_value_a_function_or_a_prefix():
    tree = {"a": {"x": jnp.zeros((2, 3)), "y": jnp.zeros((3, 2))}, "b": jnp.zeros((4, 2, 2))}
    swapped, stacked = MatrixAxes(1, 0), MatrixAxes(batch_axis=0)
    found = lambda axes: {path: axes for path, _, axes in declare(axes, tree)}
    assert found(None) == {"a/x": MatrixAxes(), "a/y": MatrixAxes(), "b": None}
    assert found(swapped) == {"a/x": swapped, "a/y": swapped, "b": swapped}
    expected = {"a/x": swapped, "a/y": swapped, "b": stacked}
    assert found({"a": swapped, "b": stacked}) == expected
    by_function = lambda path, leaf: stacked if leaf.ndim == 3 else swapped
    assert found(by_function) == expected
    assert found({"a": {"x": swapped}, "b": stacked})["a/y"] == MatrixAxes()


def test_axes_for_a_leaf_that_is_not_there_are_refused():
    with pytest.raises(ValueError, match=r"declared for 'encoder'.*no leaf; they have decoder"):
        declare({"encoder": MatrixAxes()}, {"decoder": jnp.zeros((2, 2))})


def test_axes_of_a_masked_leaf_are_no_error():
    tree = {"a": optax.MaskedNode(), "b": jnp.zeros((2, 2)), "c": None}
    axes = {"a": MatrixAxes(batch_axis=0), "c": MatrixAxes(batch_axis=0)}
    assert [path for path, _, _ in declare(axes, tree)] == ["b"]


def test_a_tree_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"axes at 'a' is 'in'"):
        declare({"a": "in"}, {"a": jnp.zeros((2, 2))})


def test_an_undeclared_stack_is_refused_with_the_call_that_settles_it():
    tree = {"blocks": {"kernel": jnp.zeros((12, 4, 8))}}
    with pytest.raises(ValueError, match="Declare them") as error:
        matrix_leaves(None, tree)
    call = str(error.value).split("axes=")[1]
    settled = eval(call, {"MatrixAxes": MatrixAxes})
    assert matrix_leaves(settled, tree)[0].axes.stack_shape((12, 4, 8)) == (12, 4, 8)


def test_a_vector_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"leaf 'bias' has shape \(3,\).*partition_by_role"):
        matrix_leaves(None, {"bias": jnp.zeros(3)})


def test_axes_are_hashable_and_no_tree():
    assert hash(MatrixAxes()) == hash(MatrixAxes(-2, -1))
    assert jax.tree.leaves(MatrixAxes()) == [MatrixAxes()]
