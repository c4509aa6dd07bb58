"""Which leaf is what.

Roles, in the order in which they are decided; the first that applies wins:

1. what the user says: `roles={pattern: role or axes}`, patterns searched in the path;
2. rank 0 or 1: a vector;
3. a name that tells vector (a scanned model stores its biases as `(layers, n)`), output head or
   embedding: of the leaf, its module, or the module's class;
4. names of axes, where a framework wrote them beside the array;
5. axes that the user declares, or that names and rank tell: a matrix;
6. one axis that is longer than 1, such as `(1, 1, n)`: a vector;
7. anything else is ambiguous, and an error.

What a framework wrote is there when `init` is called and may be gone in `update` (`nnx.Optimizer`
passes bare arrays). So it decides in `roles(params)` alone, which is called once; a transformation
that would decide otherwise without it refuses, and asks for `roles=gradsmith.roles(params)`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast, get_args

from .axes import MatrixAxes
from .conventions import RoleName, Shapes, layout_by_name, role_by_name
from .decision_log import decision_log
from .declare import (
    Axes,
    Declaration,
    Declared,
    FirstOf,
    UnsettledError,
    as_matrix,
    declare,
    pattern_of,
    settle,
)
from .metadata import Metadata, by_axis_names, metadata
from .paths import arrays
from .patterns import Patterns


class Role(NamedTuple):
    """What a leaf is, why we think so, and its axes if it is a matrix."""

    name: RoleName
    why: str
    axes: MatrixAxes | None = None


RoleOverrides = Mapping[str, str | MatrixAxes | Role]
"""What `roles=` takes: `{pattern: role or axes}`.

A pattern is a regular expression that is searched in the path of a leaf. The first that is found
wins; one that is found nowhere is an error. Axes make a matrix. A `Role` out of `roles(params)`
holds for the leaf of exactly that path."""


def roles(
    params: Any, *, axes: Axes = None, overrides: RoleOverrides | None = None
) -> dict[str, Role]:
    """Return the role of every leaf by its path, each with its reason.

    It reads what frameworks write beside their arrays: names of axes in Flax and Penzai, and the
    classes of Equinox modules and NNX variables. Give the result to an optimizer as `roles=`.

    Args:
        params: The parameters; shapes are enough (`jax.eval_shape`).
        axes: The declared axes, as for `per_stack`; a declared leaf of rank 3 or more is a matrix.
        overrides: `{pattern: role or axes}`, see `partition_by_role`.

    Raises:
        ValueError: Leaves of rank 3 or more are neither named nor declared, or a fused leaf is not
            cut; the message has the lines to write. Or a pattern is found in no path.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> params = {"dense": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}
        >>> for path, role in gs.roles(params).items():
        ...     print(path, role.name, "-", role.why)
        dense/bias vector - rank 1
        dense/kernel matrix - rank 2, (in, out)
    """
    params = arrays(params)
    words = Overrides(overrides)
    return decide_roles(_role, words, FirstOf(words.declaration, axes), params)


class Overrides:
    """What the user says of roles, to be asked by path."""

    def __init__(self, overrides: RoleOverrides | None):
        self._by_path: dict[str, tuple[int, Role]] = {}
        by_pattern: dict[str, tuple[int, Role]] = {}
        for index, (pattern, role) in enumerate((overrides or {}).items()):
            if isinstance(role, Role):
                self._by_path[pattern] = (index, role)
            elif isinstance(role, MatrixAxes):
                by_pattern[pattern] = (index, Role("matrix", f"you said {pattern!r}", role))
            elif role in get_args(RoleName):
                name = cast(RoleName, role)
                by_pattern[pattern] = (index, Role(name, f"you said {pattern!r}"))
            else:
                known = ", ".join(get_args(RoleName))
                raise ValueError(
                    f"roles[{pattern!r}] is {role!r}; a role is one of {known}, or MatrixAxes"
                )
        self._by_pattern = Patterns("roles", by_pattern)

    def role(self, path: str) -> Role | None:
        """Return what the user says of the leaf at `path`; the first that fits."""
        found = self._first(path)
        return None if found is None else found[0]

    def declaration(self, path: str) -> Declaration | None:
        """Return the axes that the user gives the leaf, and the pattern that says so."""
        found = self._first(path)
        return (
            None if found is None or found[0].axes is None else Declaration(found[0].axes, found[1])
        )

    def mention(self, name: RoleName) -> bool:
        """Whether the user gives any leaf that role."""
        words = [*self._by_path.values(), *self._by_pattern.values()]
        return any(role.name == name for _, role in words)

    def refuse_unmatched(self, tree: Any) -> None:
        """Refuse patterns that are found in no path of `tree`."""
        self._by_pattern.refuse_unmatched(tree)

    def _first(self, path: str) -> tuple[Role, str] | None:
        """Return what the user says of the leaf at `path`, and the pattern that says so."""
        exact, found = self._by_path.get(path), self._by_pattern.first(path)
        if exact is not None and (found is None or exact[0] < found[1][0]):
            return exact[1], pattern_of(path)
        return None if found is None else (found[1][1], found[0])


_VECTOR_OF_RANK_2 = (
    "a vector by its name, though of rank 2, as scanned biases and gains are; "
    "if it is a matrix, say so in `roles=`"
)


def decide_roles(decide: Callable, words: Overrides, axes: Axes, params: Any) -> dict[str, Role]:
    """Return what `decide` says of every leaf, by its path.

    Raises:
        ValueError: As for `roles`.
    """
    words.refuse_unmatched(params)
    leaves = declare(axes, params)
    shapes = {leaf.path: tuple(leaf.array.shape) for leaf in leaves}
    pairs = zip(leaves, metadata(params), strict=True)
    roles = settle(lambda pair: decide(pair[0], words, shapes, pair[1]), pairs)
    return {leaf.path: role for leaf, role in zip(leaves, roles, strict=True)}


def _role(leaf: Declared, words: Overrides, shapes: Shapes, note: Metadata) -> Role:
    if said := words.role(leaf.path):
        if said.axes is not None:
            as_matrix(leaf)  # refuses axes that do not fit, and a fused leaf that nobody cuts
        return said
    shape = shapes[leaf.path]
    rank = len(shape)
    if rank < 2:
        return Role("vector", f"rank {rank}")
    if named := role_by_name(leaf.path, shapes, note.aliases):
        name, told_by = named
        if name == "vector" and rank == 2:
            decision_log().remarks[leaf.path] = _VECTOR_OF_RANK_2
        rank_too = f"rank {rank}, " if name == "vector" else ""
        return Role(name, f"{rank_too}named {told_by!r}")
    if told := by_axis_names(note.axis_names):
        name, axes = told
        if name != "matrix" or leaf.declaration is None:
            return Role(name, f"axes named {', '.join(note.axis_names)}", axes)
    layout = layout_by_name(leaf.path, shapes, note.aliases)
    try:
        axes = as_matrix(leaf._replace(layout=layout)).axes
    except UnsettledError as question:
        if layout is None and sum(size != 1 for size in shape) <= 1:
            return Role("vector", f"rank {rank}, one axis longer than 1")
        raise question.or_else(
            f"For what is no matrix write roles={{{leaf.path!r}: 'vector'}}."
        ) from None
    says = "axes declared" if leaf.declaration or not layout else layout.line.says
    return Role("matrix", f"rank {rank}, {says}", axes)


def settled_role(leaf: Declared, words: Overrides, shapes: Shapes, note: Metadata) -> Role:
    """Return the role that holds with and without what the framework wrote beside the leaf.

    Raises:
        UnsettledError: The leaf is ambiguous.
        ValueError: The two differ.
    """
    informed = _informed(leaf, words, shapes, note) if any(note) else None
    try:
        role = _role(leaf, words, shapes, Metadata())
    except UnsettledError as question:
        if informed is None:
            raise
        raise question.or_else(
            "To decide by what the framework wrote beside it: roles=gradsmith.roles(params)."
        ) from None
    if informed and (informed.name, _sides(informed, leaf)) != (role.name, _sides(role, leaf)):
        raise ValueError(
            f"leaf {leaf.path!r} looks like a {role.name} ({role.why}), but the framework says "
            f"{informed.name} ({informed.why}). Decide by that: roles=gradsmith.roles(params); or "
            f"yourself: roles={{{leaf.path!r}: {informed.name!r}}}"
        )
    return role


def _informed(leaf: Declared, words: Overrides, shapes: Shapes, note: Metadata) -> Role | None:
    try:
        return _role(leaf, words, shapes, note)
    except ValueError:
        return None


def _sides(role: Role, leaf: Declared) -> tuple | None:
    return role.axes and role.axes.sides(len(leaf.array.shape))
