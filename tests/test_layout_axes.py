import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from matrix_oracles import unchecked_annotations

import gradsmith as gs
from gradsmith import MatrixAxes
from gradsmith.layout.declare import declare, matrix_leaves


@st.composite
def shapes_and_axes(draw):
    """A shape, its axes dealt out to three sides in any order, and a cut of one or none."""
    rank = draw(st.integers(2, 5))
    shape = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    order = draw(st.permutations(range(rank)))
    first = draw(st.integers(1, rank - 1))
    second = draw(st.integers(first + 1, rank))
    signed = [axis - rank if draw(st.booleans()) else axis for axis in order]
    cut, blocks = None, None
    if draw(st.booleans()):
        cut = draw(st.sampled_from(signed[:second]))
        blocks = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple))
        shape[cut] = sum(blocks)
        if len(set(blocks)) == 1 and draw(st.booleans()):
            blocks = blocks[0]
    return tuple(shape), (signed[:first], signed[first:second], signed[second:]), cut, blocks


@example(((3, 4), ([0], [1], []), 1, 2))  # blocks of one shape, so that their order shows
@example(((2, 3, 4), ([-2], [-1], [0]), -1, (2, 2)))
@given(shapes_and_axes())
@settings(deadline=None, max_examples=25)
def test_join_undoes_split(case):
    shape, sides, cut, blocks = case
    axes = MatrixAxes(*map(tuple, sides), cut, blocks)  # beartype would draw random numbers above
    leaf = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    stacks, back = jax.jit(lambda leaf: (found := axes.split(leaf), axes.join(found, shape)))(leaf)
    assert [stack.shape for stack in stacks] == axes.stack_shapes(shape)
    np.testing.assert_array_equal(back, leaf)


def cut_by_hand(leaf, sides, cut, blocks):
    """Every matrix of the leaf, in NumPy, one at a time: the oracle of `split`."""
    rows, columns, batch = ([axis % leaf.ndim for axis in side] for side in sides)
    edges = np.cumsum(
        (blocks,) * (leaf.shape[cut] // blocks) if isinstance(blocks, int) else blocks
    )
    whole = [leaf] if cut is None else np.split(leaf, edges[:-1], cut)
    for block in whole:
        for index in np.ndindex(*(leaf.shape[axis] for axis in batch)):
            view = np.moveaxis(block, batch, range(len(batch)))[index]
            left = [axis for axis in range(leaf.ndim) if axis not in batch]
            order = [left.index(axis) for axis in rows + columns]
            fan_in = np.prod([block.shape[axis] for axis in rows], dtype=int)
            yield view.transpose(order).reshape(fan_in, -1)


@given(shapes_and_axes())
@settings(deadline=None, max_examples=25)
def test_split_finds_the_matrices_that_a_loop_cuts_out(case):
    shape, sides, cut, blocks = case
    leaf = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    stacks = jax.jit(MatrixAxes(*map(tuple, sides), cut, blocks).split)(leaf)
    found = sorted(matrix.tolist() for stack in stacks for matrix in np.asarray(stack))
    assert found == sorted(matrix.tolist() for matrix in cut_by_hand(leaf, sides, cut, blocks))


def test_heads_cut_from_one_axis_are_those_of_an_axis_of_their_own():
    whole = jnp.arange(2 * 12.0).reshape(2, 12)
    heads = whole.reshape(2, 3, 4)
    (cut,) = MatrixAxes(cut_axis=1, blocks=4).split(whole)
    np.testing.assert_array_equal(cut, MatrixAxes(0, 2, batch_axis=1).split(heads)[0])
    (one,) = MatrixAxes(0, (1, 2), cut_axis=1, blocks=1).split(heads)
    np.testing.assert_array_equal(cut, one)


def test_unequal_blocks_make_one_stack_for_each_run_of_equal_ones():
    fused = jnp.arange(2 * 16.0).reshape(2, 16)  # 4 query heads, 2 keys, 2 values
    queries, others = MatrixAxes(cut_axis=1, blocks=(8, 4, 4)).split(fused)
    np.testing.assert_array_equal(queries[0], fused[:, :8])
    np.testing.assert_array_equal(others, jnp.stack([fused[:, 8:12], fused[:, 12:]]))


def test_split_puts_fan_in_in_rows_whatever_the_order_of_the_array():
    flax = jnp.arange(6.0).reshape(2, 3)  # (in, out)
    equinox = flax.T  # (out, in)
    np.testing.assert_array_equal(MatrixAxes().split(flax)[0][0], flax)
    np.testing.assert_array_equal(MatrixAxes(1, 0).split(equinox)[0][0], flax)


def test_split_of_stacked_layers_is_the_layers():
    layers = jnp.arange(24.0).reshape(4, 2, 3)
    axes = MatrixAxes(batch_axis=0)
    np.testing.assert_array_equal(axes.split(layers)[0], layers)
    middle = MatrixAxes(in_axis=0, out_axis=2, batch_axis=1)
    np.testing.assert_array_equal(middle.split(layers)[0][1], layers[:, 1, :])


def test_several_axes_on_one_side_are_flattened_in_the_order_given():
    kernel = jnp.arange(24.0).reshape(2, 3, 4)  # (heads, head_dim, out)
    axes = MatrixAxes(in_axis=(0, 1), out_axis=2)
    np.testing.assert_array_equal(axes.split(kernel)[0][0], kernel.reshape(6, 4))


@pytest.mark.parametrize(
    "axes",
    [
        MatrixAxes(0, 0, 1),
        MatrixAxes(0, 1),
        MatrixAxes(0, 1, 5),
        MatrixAxes((), 0, (1, 2)),
        MatrixAxes(0, 1, 2, cut_axis=2, blocks=2),
        MatrixAxes(0, 1, 2, cut_axis=1, blocks=2),
        MatrixAxes(0, 1, 2, cut_axis=1, blocks=(2, 2)),
        MatrixAxes(0, 1, 2, cut_axis=3, blocks=(3,)),
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
    found = lambda axes: {
        leaf.path: leaf.declaration and leaf.declaration.axes for leaf in declare(axes, tree)
    }
    assert found(None) == {"a/x": None, "a/y": None, "b": None}
    assert found(swapped) == {"a/x": swapped, "a/y": swapped, "b": swapped}
    expected = {"a/x": swapped, "a/y": swapped, "b": stacked}
    assert found({"a": swapped, "b": stacked}) == expected
    by_function = lambda path, leaf: stacked if leaf.ndim == 3 else swapped
    assert found(by_function) == expected
    assert found({"a/x": swapped, "a/y": swapped, "b": stacked}) == expected
    assert found({"a": {"x": swapped}, "b": stacked})["a/y"] is None


def test_axes_for_a_leaf_that_is_not_there_are_refused():
    with pytest.raises(ValueError, match=r"declared for 'encoder'.*no leaf; they have decoder"):
        declare({"encoder": MatrixAxes()}, {"decoder": jnp.zeros((2, 2))})


def test_axes_of_a_masked_leaf_are_no_error():
    tree = {"a": optax.MaskedNode(), "b": jnp.zeros((2, 2)), "c": None}
    axes = {"a": MatrixAxes(batch_axis=0), "c": MatrixAxes(batch_axis=0)}
    assert [leaf.path for leaf in declare(axes, tree)] == ["b"]


def test_a_tree_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"axes at 'a' is 'in'"):
        declare({"a": "in"}, {"a": jnp.zeros((2, 2))})


@pytest.mark.parametrize(
    ("path", "shape", "stacks"),
    [
        ("kernel", (12, 4, 8), [(12, 4, 8)]),
        ("weight", (12, 4, 8), [(12, 8, 4)]),
        ("kernel", (2, 3, 4, 8), [(6, 4, 8)]),
        ("attn/qkv/kernel", (4, 24), [(3, 4, 8)]),
        ("attn/c_attn/weight", (24, 4), [(3, 4, 8)]),
        ("mlp/gate_up_proj/kernel", (5, 4, 16), [(10, 4, 8)]),
    ],
    ids=str,
)
def test_an_undeclared_leaf_is_refused_with_the_lines_that_settle_it(path, shape, stacks):
    tree = {path: jnp.zeros(shape)}
    with pytest.raises(ValueError, match=rf"leaf '{path}'") as error:
        matrix_leaves(None, tree)
    (found,) = matrix_leaves(pasted(error), tree)
    assert found.axes.stack_shapes(shape) == stacks


def pasted(error):
    """What `axes=` is when the lines of the message are pasted."""
    lines = str(error.value).split("\naxes=")[1].split("\n}")[0] + "\n}"
    return eval(lines, {"MatrixAxes": MatrixAxes})


def test_all_leaves_that_nobody_declared_are_in_one_message():
    shapes = {f"{i}/kernel": (3, 4, 8) for i in range(50)} | {"qkv/weight": (24, 4), "up": (4, 4)}
    tree = {path: jnp.zeros(shape) for path, shape in shapes.items()}
    with pytest.raises(ValueError, match="51 leaves") as error:
        matrix_leaves(None, tree)
    assert sorted(pasted(error)) == sorted(shapes.keys() - {"up"})
    assert len(matrix_leaves(pasted(error), tree)) == 52


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("qkv/kernel", (4, 16)),  # not divisible by three
        ("c_attn/kernel", (24, 4)),  # Flax in transformers: (out, in)
        ("gru/weight_ih", (12, 4)),  # three gates here, four in an LSTM
    ],
)
def test_a_cut_that_is_not_known_is_not_suggested(path, shape):
    with pytest.raises(
        ValueError, match=r"cut_axis=\d, blocks=\.\.\.\),  # .* sizes in order"
    ) as error:
        matrix_leaves(None, {path: jnp.zeros(shape)})
    with (
        pytest.raises(TypeError, match="several for blocks, got Ellipsis"),
        unchecked_annotations(),
    ):
        pasted(error)


STACKED = MatrixAxes(batch_axis=0)
FUSED = {"blocks": {"qkv": {"kernel": jnp.zeros((3, 4, 24))}, "up": jnp.zeros((3, 4, 8))}}


@pytest.mark.parametrize(
    ("axes", "patterns"),
    [(STACKED, None), ({"blocks": STACKED}, None), (None, {"blocks/.*": STACKED})],
    ids=["everywhere", "prefix", "pattern"],
)
def test_a_declaration_over_a_fused_leaf_does_not_take_it_whole(axes, patterns):
    for call in (
        lambda: gs.roles(FUSED, axes=axes, overrides=patterns),
        lambda: gs.muon(0.1, axes=axes, roles=patterns).init(FUSED),
    ):
        with pytest.raises(ValueError, match=r"leaf 'blocks/qkv/kernel'") as error:
            call()
        cut = pasted(error)
        assert cut == {"blocks/qkv/kernel": MatrixAxes(batch_axis=0, cut_axis=2, blocks=8)}
        whole = "{'blocks/qkv/kernel': MatrixAxes(-2, -1, batch_axis=0)}"
        assert f"shall stay whole is declared by its name: {whole}" in str(error.value)
        gs.roles(FUSED, axes=cut | {"blocks": STACKED})


@pytest.mark.parametrize(
    "axes",
    [
        {"blocks": STACKED, "blocks/qkv/kernel": STACKED},
        {"blocks": STACKED, "blocks/qkv": STACKED},
        {"blocks": {"qkv": {"kernel": STACKED}, "up": STACKED}},
        lambda path, leaf: STACKED,
        gs.without_cuts({"blocks": MatrixAxes(batch_axis=0, cut_axis=2, blocks=4)}),
    ],
    ids=["path", "module", "tree", "function", "without_cuts"],
)
def test_a_fused_leaf_that_is_named_is_taken_whole(axes):
    leaves = {leaf.path: leaf.axes for leaf in matrix_leaves(axes, FUSED)}
    assert leaves == {"blocks/qkv/kernel": STACKED, "blocks/up": STACKED}


def test_a_pattern_with_the_name_of_a_fused_leaf_takes_it_whole():
    decided = gs.roles(FUSED, overrides={"qkv": STACKED, "blocks": STACKED})
    assert {role.axes for role in decided.values()} == {STACKED}
    again = gs.roles(FUSED, overrides=decided)
    assert again == decided


def test_a_factor_of_low_rank_is_no_fused_leaf():
    tree = {"qkv/lora_a": jnp.zeros((16, 2)), "qkv/lora_b": jnp.zeros((2, 48))}
    assert [leaf.axes for leaf in matrix_leaves(None, tree)] == [MatrixAxes(0, 1)] * 2


@pytest.mark.parametrize(
    ("first", "second", "axes"),
    [
        ((8, 2), (2, 6), [MatrixAxes(0, 1), MatrixAxes(0, 1)]),
        ((2, 8), (6, 2), [MatrixAxes(1, 0), MatrixAxes(1, 0)]),  # as Torch stores them
        ((8, 2), (2, 3, 4), [MatrixAxes(0, 1), MatrixAxes(0, (1, 2))]),
        ((3, 4, 2), (2, 8), [MatrixAxes((0, 1), 2), MatrixAxes(0, 1)]),
        ((5, 8, 2), (5, 2, 6), [MatrixAxes(1, 2, 0)] * 2),
        ((5, 2, 8), (5, 6, 2), [MatrixAxes(2, 1, 0)] * 2),
        ((5, 8, 2), (5, 2, 3, 4), [MatrixAxes(1, 2, 0), MatrixAxes(1, (2, 3), 0)]),
        ((5, 7, 8, 2), (5, 7, 2, 6), [MatrixAxes(2, 3, (0, 1))] * 2),
    ],
    ids=str,
)
def test_the_shapes_of_both_factors_of_low_rank_tell_their_axes(first, second, axes):
    for names in (("lora_a", "lora_b"), ("lora/A", "lora/B"), ("w_lora_A", "w_lora_B")):
        tree = dict(zip(names, (jnp.zeros(first), jnp.zeros(second)), strict=True))
        assert [leaf.axes for leaf in matrix_leaves(None, tree)] == axes


def test_factors_of_low_rank_whose_shapes_fit_two_ways_are_asked_for():
    tree = {"lora_a": jnp.zeros((2, 8, 2)), "lora_b": jnp.zeros((2, 2, 6))}
    with pytest.raises(ValueError, match="2 leaves"):
        matrix_leaves(None, tree)


def test_axes_may_be_lists_and_integers_of_numpy():
    assert MatrixAxes([0, 1], 2) == MatrixAxes((0, 1), 2)
    with unchecked_annotations():
        assert MatrixAxes(np.int64(1), np.int32(0)) == MatrixAxes(1, 0)
        assert MatrixAxes(np.arange(2), 2, [3]) == MatrixAxes((0, 1), 2, 3)
        cut = MatrixAxes(cut_axis=np.int64(1), blocks=[np.int64(4), 2])
    assert cut == MatrixAxes(cut_axis=1, blocks=(4, 2))
    assert repr(cut) == "MatrixAxes(-2, -1, cut_axis=1, blocks=(4, 2))"
    assert hash(MatrixAxes([0, 1], 2)) == hash(MatrixAxes((0, 1), 2))
    assert MatrixAxes([0, 1], 2).split(jnp.zeros((2, 3, 4)))[0].shape == (1, 6, 4)


@pytest.mark.parametrize("axis", [0.0, "in", [0, None]], ids=str)
def test_an_axis_that_is_no_integer_is_refused(axis):
    with (
        unchecked_annotations(),
        pytest.raises(TypeError, match="an integer or several for in_axis"),
    ):
        MatrixAxes(axis, 1)


def test_what_is_no_array_has_no_axes_and_no_declaration():
    tree = {"weight": jnp.zeros((2, 3)), "activation": jax.nn.relu, "rate": 0.5}
    assert [leaf.path for leaf in matrix_leaves({"activation": MatrixAxes()}, tree)] == ["weight"]
    state = gs.per_stack(gs.polar_factor()).init(tree)
    assert list(state.buckets) == ["1x3x2 float32"]


def test_a_vector_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"leaf 'bias' has shape \(3,\).*partition_by_role"):
        matrix_leaves(None, {"bias": jnp.zeros(3)})


@pytest.mark.parametrize(
    "cut",
    [{"cut_axis": 1}, {"blocks": 2}, {"cut_axis": 1, "blocks": ()}, {"cut_axis": 1, "blocks": 0}],
)
def test_half_a_cut_is_refused_when_building(cut):
    with pytest.raises(ValueError, match=r"needs (both cut_axis and blocks|blocks of sizes)"):
        MatrixAxes(0, 1, **cut)


def test_axes_print_as_they_are_written():
    for text in (
        "MatrixAxes(-2, -1)",
        "MatrixAxes((0, 1), 2)",
        "MatrixAxes(0, 1, batch_axis=2)",
        "MatrixAxes(0, 1, cut_axis=1, blocks=(2, 3))",
    ):
        assert repr(eval(text)) == text


def test_axes_are_hashable_and_no_tree():
    assert hash(MatrixAxes()) == hash(MatrixAxes(-2, -1))
    assert jax.tree.leaves(MatrixAxes()) == [MatrixAxes()]
