"""Dion2: orthogonalize only the largest rows or columns of a momentum, and keep the rest.

Three stages. First, slices are chosen where the leaf lives. Then the smaller matrix is
orthogonalized like any other, so only the chosen slices travel. At last, what comes out goes back
to its place.
"""

import itertools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from ..layout.axes import MatrixAxes
from ..layout.decision_log import decision_log
from ..layout.declare import Axes, MatrixLeaf, matrix_leaves
from ..layout.gathering import join, split, stack_shapes
from ..layout.paths import is_none
from ..lift.per_gram import without_state
from ..matrix.polar.plan import Method
from ..sites.one_side import with_one_side
from ..sites.placement import Placement, check_placement, check_specs
from ..xla.arithmetic import Precision
from ..xla.dtypes import wide_dtype
from .arguments import check_choice, check_fixed, check_fractions, is_known
from .averages import average, below_one, root, square
from .leaves import map_updates
from .lengths import with_norm_of
from .orthogonalize import orthogonalize
from .slices import Chosen, Stack, at_their_places, largest_slices, shape_of_largest

Side = Literal["shorter", "in", "out"]


class LargestState(NamedTuple):
    """The momentum, which mirrors the parameters, and what is known of neurons, stack by stack."""

    momentum: Any
    mean_square: dict[str, Array]
    times_chosen: dict[str, Array]
    orthogonalize: Any


def orthogonalize_largest(
    fraction: float = 0.25,
    decay: ArrayLike = 0.95,
    side: Side | None = None,
    *,
    neuron_decay: ArrayLike | None = None,
    momentum_dtype: DTypeLike | None = None,
    method: Method | None = None,
    precision: Precision | None = None,
    postprocess: optax.GradientTransformation | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
) -> optax.GradientTransformation:
    """Add up gradients, and orthogonalize the largest slices of the sum.

    A slice is a row or a column of a matrix. The update is the polar factor of the chosen slices,
    at their places, and zero elsewhere. What was chosen then shrinks by `decay`; what was not stays
    as it is, until it has grown enough to be chosen.

    On a mesh only the chosen slices travel, a `fraction` of what `orthogonalize` moves, if `side`
    is whole on every device. The result does not depend on the mesh. If the mesh splits `side`, the
    matrices travel there and back once more; then choose the other side. Microsoft's code lets each
    device choose among its own slices there, which is another optimizer on another mesh.

    A direction: stands before the learning rate, instead of `momentum` and `orthogonalize`. State:
    one copy of the matrices; with `neuron_decay` two numbers a neuron. Costs what `orthogonalize`
    costs for the smaller matrices, and a few passes over the momentum.

    Args:
        fraction: The part of the slices that is chosen, in (0, 1], rounded up.
        decay: The part of the chosen slices that stays in the momentum.
        side: What is chosen: units of 'in', rows; of 'out', columns; or of the 'shorter' side,
            outputs if both are equal. By default 'shorter', with `neuron_decay` 'out'. The measure
            is the sum of absolute values, and of equal slices the first is chosen.
        neuron_decay: Makes NorDion2 of it: chosen neurons get equal parts over time, as by
            `scale_by_neuron_rms`, with this decay. A neuron is an output. Each mean square is
            debiased by the number of times its neuron was chosen. The published code does not
            debias: there a new neuron moves 3.6 times as far as one that was chosen twenty times.
        momentum_dtype: As for `momentum`.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        postprocess: A rule without state for what comes out, such as a shape scale. It sees the
            shape of the whole matrix.
        axes: As for `per_stack`.
        placement: As for `per_stack`.

    Raises:
        ValueError: A number is out of its range; no side has that name; neurons are not on that
            side; or as `orthogonalize`.
        TypeError: `fraction` is an array: it decides shapes.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.orthogonalize_largest(0.5, decay=0.5, method="svd")
        >>> grads = {"kernel": jnp.array([[4.0, 0.0], [0.0, 5.0]])}
        >>> state = tx.init(grads)
        >>> for _ in range(2):
        ...     updates, state = tx.update(grads, state)
        ...     print(updates["kernel"].sum(axis=0))
        [0. 1.]
        [1. 0.]
        >>> print(state.momentum["kernel"])
        [[4.  0. ]
         [0.  7.5]]

    References:
        Ahn et al., Dion2, 2025, arXiv:2512.16928, and https://github.com/microsoft/dion
    """
    owner = "orthogonalize_largest"
    check_fixed(owner, fraction=fraction, momentum_dtype=momentum_dtype)
    side = side or ("shorter" if neuron_decay is None else "out")
    check_choice("side", side, Side)
    check_fractions(owner, decay=decay)
    if not is_known(fraction) or not 0 < fraction <= 1:
        raise ValueError(f"{owner} needs 0 < fraction <= 1, got {fraction}")
    if neuron_decay is not None:
        check_fractions(owner, neuron_decay=neuron_decay)
        if side != "out":
            raise ValueError(f"{owner}: with neuron_decay outputs are chosen, got side={side!r}")
    check_placement(placement)
    finish = without_state(postprocess)
    middle = lambda placement: orthogonalize(
        method, precision=precision, axes=MatrixAxes(batch_axis=0), placement=placement
    )

    def plan(leaves: list[MatrixLeaf]):
        """Return shape, whole axis and name of every stack, and how they are split."""
        shapes = stack_shapes(leaves)
        whole = [{"in": 1, "out": 2, "shorter": 2 if n <= m else 1}[side] for _, m, n in shapes]
        names = _names(leaves)
        return shapes, whole, names, with_one_side(placement, leaves, whole, names)

    def init_fn(params: Any) -> Any:
        kept = lambda p: wide_dtype(p.dtype) if momentum_dtype is None else momentum_dtype
        momentum = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=kept(p)), params)
        leaves = matrix_leaves(axes, params)
        check_specs(placement, params)
        shapes, whole, names, where = plan(leaves)
        for leaf in leaves:
            decision_log().axes.setdefault(leaf.path, leaf.axes)
        of_stack = [leaf for leaf in leaves for _ in leaf.axes.runs(leaf.array.shape)]
        chosen = {
            name: jnp.zeros(shape_of_largest(shape, axis, fraction), wide_dtype(leaf.array.dtype))
            for name, shape, axis, leaf in zip(names, shapes, whole, of_stack, strict=True)
        }
        state = middle(where.placement).init(chosen)
        if neuron_decay is None:
            return LargestState(momentum, {}, {}, state)
        real = lambda leaf: jnp.finfo(wide_dtype(leaf.array.dtype)).dtype
        zeros = lambda dtypes: {
            name: jnp.zeros((shape[0], shape[2]), dtype)
            for name, shape, dtype in zip(names, shapes, dtypes, strict=True)
        }
        squares = zeros([real(leaf) for leaf in of_stack])
        return LargestState(momentum, squares, zeros([jnp.int32] * len(names)), state)

    def update_fn(updates: Any, state: Any, params: Any = None):
        del params
        wide = lambda g, m: m.astype(wide_dtype(m.dtype)) + g.astype(wide_dtype(m.dtype))
        leaves = matrix_leaves(axes, map_updates(wide, updates, state.momentum))
        if not leaves:
            return updates, state
        _, whole, names, where = plan(leaves)
        lines = [PartitionSpec(spec[0], None) for spec in where.stacks]
        arrays = [leaf.array.shape for leaf in leaves]
        count = len(names)

        def choose(*sums: Array) -> list[Array]:
            parts, marks, rest = [], [], {}
            for i, stack in enumerate(split(leaves, sums)):
                stack = where.move(stack, where.stacks[i]) if where.stacks else stack
                part, mark = largest_slices(stack, whole[i], fraction)
                factor = jnp.where(mark, below_one(decay, stack.real.dtype), 1)
                factor = jnp.expand_dims(factor, 3 - whole[i]).astype(stack.dtype)
                parts.append(part)
                marks.append(mark)
                rest[i] = stack * factor
            return [*parts, *marks, *join(rest, leaves, arrays)]

        found = where.run(
            choose, [*where.stacks, *lines, *where.leaves], *[leaf.array for leaf in leaves]
        )
        parts, marks, rest = found[:count], found[count : 2 * count], found[2 * count :]
        ortho, inner = middle(where.placement).update(
            dict(zip(names, parts, strict=True)), state.orthogonalize
        )

        def put_back(parts, marks, squares, counts) -> list[Array]:
            stacks, new = {}, []
            for i, mark in enumerate(marks):
                full = at_their_places(parts[i], mark, whole[i])
                if neuron_decay is not None:
                    full, *kept = _equal_neurons(full, mark, squares[i], counts[i], neuron_decay)
                    new.append(kept)
                stacks[i] = finish.update(full, finish.init(full))[0]
            known = itertools.chain(*zip(*new, strict=True))
            return [*join(stacks, leaves, arrays), *known]

        known = [
            [tree[name] for name in names if tree]
            for tree in (state.mean_square, state.times_chosen)
        ]
        specs = [*where.leaves, *(lines * 2 if neuron_decay is not None else [])]
        given = [ortho[name] for name in names], marks, *known  # pyright: ignore[reportIndexIssue]
        back = where.run(put_back, specs, *given)
        out = _like(updates, leaves, back[: len(leaves)], updates)
        momentum = _like(updates, leaves, rest, state.momentum)
        known = back[len(leaves) :]
        squares = state.mean_square | dict(zip(names, known[:count], strict=False))
        times = state.times_chosen | dict(zip(names, known[count:], strict=False))
        return out, LargestState(momentum, squares, times, inner)

    return optax.GradientTransformation(init_fn, update_fn)


def _names(leaves: list[MatrixLeaf]) -> list[str]:
    """Return the path of each stack: that of its leaf, with a number where the leaf is cut."""
    names = []
    for leaf in leaves:
        runs = len(leaf.axes.runs(leaf.array.shape))
        names += [leaf.path] if runs == 1 else [f"{leaf.path}/{i}" for i in range(runs)]
    return names


def _equal_neurons(full: Stack, mark: Chosen, squares: Array, counts: Array, decay: ArrayLike):
    """Return the chosen neurons at equal lengths over time, and what is known of them."""
    seen = jnp.sum(square(full, full).real, axis=1).astype(squares.dtype) / max(1, full.shape[1])
    squares = jnp.where(mark, average(decay, squares, seen), squares)
    counts = counts + mark.astype(counts.dtype)
    weight = 1 - below_one(decay, squares.dtype) ** jnp.maximum(counts, 1).astype(squares.dtype)
    divisor = root(squares / weight)[:, None, :]
    divisor = jnp.where(divisor == 0, 1.0, divisor).astype(full.dtype)
    return with_norm_of(full, full / divisor), squares, counts


def _like(updates: Any, leaves: list[MatrixLeaf], new: list[Array], old: Any) -> Any:
    """Return the tree of `new` in the dtypes of `old`, which stays where there is no update."""
    structure = jax.tree.structure(map_updates(lambda update: 0, updates))
    assert structure.num_leaves == len(leaves)
    tree = jax.tree.unflatten(structure, new)
    pick = lambda x, kept: kept if x is None else x.astype(kept.dtype)
    return jax.tree.map(pick, tree, old, is_leaf=is_none)
