"""Which leaf has which axes: what the user declares, or else what the names say."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar, cast

from .axes import MatrixAxes
from .conventions import Layout, ToldLayout, layout_by_name, without_name
from .paths import arrays, leaves_with_path, longest_prefix, masked_paths, prefixes

Decision = TypeVar("Decision")

Axes = None | MatrixAxes | Callable[[str, Any], MatrixAxes | None] | Any
"""What `axes=` takes: which axes of which leaf are fan-in, fan-out and stack.

None is what the names tell. One `MatrixAxes` holds for every leaf. A function
`(path, leaf) -> MatrixAxes | None` gets paths such as `'blocks/0/kernel'`. A tree of `MatrixAxes`
is a prefix of the parameters; a flat dict by path, `{'blocks/kernel': ...}`, is one too. Where any
of them gives None, the names tell."""


class MatrixLeaf(NamedTuple):
    """A leaf that is a matrix or several of them, where it is, and its axes."""

    path: str
    array: Any
    axes: MatrixAxes


class Declaration(NamedTuple):
    """What the user says of a leaf, and a pattern for the paths of all leaves it is said of."""

    axes: MatrixAxes
    pattern: str


class Declared(NamedTuple):
    """A leaf, where it is, what the user declares of it, and the layout that its names tell."""

    path: str
    array: Any
    declaration: Declaration | None
    layout: ToldLayout | None


class UnsettledError(ValueError):
    """Nothing says what the matrices of a leaf are.

    Args:
        path: Where the leaf is.
        line: The axes to declare, as they are written.
        note: What to know about the leaf.
        remedies: Sentences about other ways out.
    """

    def __init__(self, path: str, line: str, note: str, remedies: tuple[str, ...] = ()):
        super().__init__(path)
        self.path, self.line, self.note, self.remedies = path, line, note, remedies

    def or_else(self, *remedies: str) -> "UnsettledError":
        """Return the same with more ways out."""
        return UnsettledError(self.path, self.line, self.note, (*self.remedies, *remedies))


@dataclass(frozen=True)
class FirstOf:
    """What a function of paths declares, and where that is None another form of axes."""

    first: Callable[[str], Declaration | None]
    otherwise: Axes


@dataclass(frozen=True)
class WithoutCuts:
    """Another form of axes without its cuts."""

    axes: Axes


def without_cuts(axes: Axes) -> Axes:
    """Return the same axes without their cuts: for what shall see a whole leaf.

    A shape scale stands beside the formula in one `per_stack` and sees the shape of a block. Where
    a paper scales by the shape of the leaf instead, give the scale a `per_stack` of its own.

    Args:
        axes: Any form of axes.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> axes = gs.MatrixAxes(cut_axis=1, blocks=4)
        >>> by_block = gs.per_stack(gs.match_rms(1.0), axes=axes)
        >>> by_leaf = gs.per_stack(gs.match_rms(1.0), axes=gs.without_cuts(axes))
        >>> kernel = jnp.ones((4, 16))
        >>> for scale in (by_block, by_leaf):
        ...     print(scale.update(kernel, scale.init(kernel))[0].max())
        2.0
        4.0
    """
    return WithoutCuts(axes)


def declare(axes: Axes, tree: Any) -> list[Declared]:
    """Return the arrays of `tree` in order, each with what is declared and what its names tell.

    Raises:
        ValueError: There is a declaration for a path that the tree lacks.
    """
    tree = arrays(tree)
    leaves = leaves_with_path(tree)
    find = _lookup(axes, [path for path, _ in leaves] + masked_paths(tree))
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves}
    return [
        Declared(path, leaf, find(path, leaf), layout_by_name(path, shapes))
        for path, leaf in leaves
    ]


def matrix_leaves(axes: Axes, tree: Any) -> list[MatrixLeaf]:
    """Like `declare`, where every leaf must be a matrix or several of them.

    Raises:
        ValueError: A leaf has rank 0 or 1, its axes do not fit it, or nobody knows them; the last
            error names all leaves for which this is so.
    """
    return settle(as_matrix, declare(axes, tree))


def settle(decide: Callable[[Any], Decision], leaves: Iterable[Any]) -> list[Decision]:
    """Return what `decide` says of each leaf.

    Raises:
        ValueError: It raised `UnsettledError` for some leaves; the message has the lines for all.
    """
    decisions, unsettled = [], []
    for leaf in leaves:
        try:
            decisions.append(decide(leaf))
        except UnsettledError as question:
            unsettled.append(question)
    if unsettled:
        raise ValueError(_question(unsettled))
    return decisions


def as_matrix(declared: Declared) -> MatrixLeaf:
    """Return the leaf with its axes: those that are declared, or else those that its names tell.

    Raises:
        ValueError: It has rank 0 or 1, or the axes do not fit it.
        UnsettledError: Nothing says what its axes are; or it fuses several matrices by its name,
            and the declaration neither cuts it nor names it.
    """
    path, leaf, declaration, layout = declared
    shape = tuple(leaf.shape)
    if len(shape) < 2:
        raise ValueError(
            f"leaf {path!r} has shape {shape}, which is no matrix. Give it to another optimizer: "
            f"gradsmith.partition_by_role(matrices=..., others=optax.adamw(...))"
        )
    axes = declaration.axes if declaration else layout.axes if layout else None
    if axes is not None:
        try:
            axes.runs(shape)
        except ValueError as error:
            raise ValueError(f"leaf {path!r}: {error}") from None
    fused = layout.line if layout is not None and layout.axes is None else None
    if fused and not (declaration and _settles_fused(declaration, path, fused)):
        raise _where_it_is_cut(path, shape, axes, fused)
    if axes is None:
        raise UnsettledError(path, repr(_stack(path, len(shape))), f"{shape}")
    return MatrixLeaf(path, leaf, axes)


def _settles_fused(declaration: Declaration, path: str, line: Layout) -> bool:
    """Whether the declaration cuts the leaf, or says of this very leaf that it is one matrix.

    The second is so where the pattern no longer fits once the name is out of the path: `qkv` names
    `blocks/qkv/kernel`, and `blocks` does not.
    """
    axes, pattern = declaration
    if axes.cut_axis is not None or pattern == pattern_of(path):
        return True
    return re.search(pattern, without_name(path, line)) is None


def _where_it_is_cut(
    path: str, shape: tuple[int, ...], axes: MatrixAxes | None, line: Layout
) -> UnsettledError:
    """Return the question where a fused leaf is cut, with an answer if its names tell one."""
    whole = axes or _stack(path, len(shape))
    cut = whole.sides(len(shape))[2][0]
    if line.parts is not None and shape[cut] % line.parts == 0:
        answer = repr(replace(whole, cut_axis=cut, blocks=max(1, shape[cut] // line.parts)))
        note = f"{shape}, {line.says}: {line.parts} equal blocks?"
    else:
        answer = f"{repr(whole)[:-1]}, cut_axis={cut}, blocks=...)"
        note = f"{shape}, {line.says}: the size of every block, or the sizes in order"
    remedy = f"A fused leaf that shall stay whole is declared by its name: {{{path!r}: {whole}}}."
    return UnsettledError(path, answer, note, (remedy,) if axes else ())


def _stack(path: str, rank: int) -> MatrixAxes:
    """Return the axes of a stack of matrices, transposed for a `weight`."""
    transposed = re.fullmatch(r"(.*_)?weight(_.*)?", path.rpartition("/")[2]) is not None
    return MatrixAxes(*((-1, -2) if transposed else (-2, -1)), range(rank - 2))


def _question(unsettled: list[UnsettledError]) -> str:
    """Say which leaves nobody told about, with lines to paste."""
    several = f"{len(unsettled)} leaves" if len(unsettled) > 1 else f"leaf {unsettled[0].path!r}"
    return "\n".join(
        [
            f"nothing says which matrices there are in {several}: which axes are fan-in, fan-out "
            "and stack, and where a fused leaf is cut. Give `axes=` to a recipe such as muon. In a "
            "chain of your own give it twice: to partition_by_role, and to the per_matrix or "
            "per_stack inside. The lines below take the last two axes for the matrix; look at each "
            "of them:",
            "axes={",
            *(f"    {leaf.path!r}: {leaf.line},  # {leaf.note}" for leaf in unsettled),
            "}",
            "For attention (d, heads, k) write MatrixAxes(0, (1, 2)); for every head by itself, "
            "MatrixAxes(0, 2, batch_axis=1); for a convolution (h, w, in, out), "
            "MatrixAxes((0, 1, 2), 3).",
            *max((leaf.remedies for leaf in unsettled), key=len),
        ]
    )


def _lookup(axes: Axes, paths: list[str]) -> Callable[[str, Any], Declaration | None]:
    """Turn any form of `axes=` into a function of path and leaf."""
    if axes is None or isinstance(axes, MatrixAxes):
        everywhere = None if axes is None else Declaration(axes, "")
        return lambda path, leaf: everywhere
    if isinstance(axes, FirstOf):
        otherwise = _lookup(axes.otherwise, paths)
        return lambda path, leaf: axes.first(path) or otherwise(path, leaf)
    if isinstance(axes, WithoutCuts):
        cut = _lookup(axes.axes, paths)
        whole = lambda found: None if found is None else found.axes.without_cuts()
        return lambda path, leaf: _declared(path, whole(cut(path, leaf)))
    if callable(axes):
        by_path = cast(Callable[[str, Any], MatrixAxes | None], axes)
        return lambda path, leaf: _declared(path, by_path(path, leaf))
    known = {node for path in paths for node in prefixes(path)}
    table: dict[str, Declaration] = {}
    for prefix, found in leaves_with_path(axes):
        if not isinstance(found, MatrixAxes):
            raise TypeError(f"axes at {prefix!r} is {found!r}; it must be a MatrixAxes or None")
        # A tree without leaves says nothing of paths: `optax.tree.map_params` calls init with one.
        if paths and prefix not in known:
            raise ValueError(
                f"axes are declared for {prefix!r}, where the parameters have no leaf; "
                f"they have {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}"
            )
        table[prefix] = Declaration(found, pattern_of(prefix))

    def find(path: str, leaf: Any) -> Declaration | None:
        del leaf
        prefix = longest_prefix(path, table)
        return None if prefix is None else table[prefix]

    return find


def _declared(path: str, axes: MatrixAxes | None) -> Declaration | None:
    """Return the declaration of somebody who knows the path."""
    return None if axes is None else Declaration(axes, pattern_of(path))


def pattern_of(path: str) -> str:
    """Return the pattern that says `path` itself, or what is below it."""
    return "^" + re.escape(path)
