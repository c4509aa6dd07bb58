"""Which leaf is what.

Roles, in the order in which they are decided; the first that applies wins:

1. what the user says: `roles={pattern: role or axes}`, patterns searched in the path;
2. rank 0 or 1: a vector;
3. a name that tells vector (a scanned model stores its biases as `(layers, n)`), output head or
   embedding: of the leaf, its module, or the module's class;
4. names of axes, where a framework wrote them beside the array;
5. axes that the user declares, or that names and rank tell: a matrix;
6. anything else is ambiguous, and an error.

What a framework wrote is there when `init` is called and may be gone in `update` (`nnx.Optimizer`
passes bare arrays). So it decides in `roles(params)` alone, which is called once; a transformation
that would decide otherwise without it refuses, and asks for `roles=gradsmith.roles(params)`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast, get_args

from .axes import MatrixAxes
from .conventions import RoleName, Shapes, layout_by_name, role_by_name
from .declare import Axes, Declared, FirstOf, as_matrix, declare
from .metadata import Metadata, by_axis_names, metadata
from .paths import arrays


class Role(NamedTuple):
    """What a leaf is, why we think so, and its axes if it is a matrix."""

    name: RoleName
    why: str
    axes: MatrixAxes | None = None


RoleOverrides = Mapping[str, str | MatrixAxes | Role]
"""What `roles=` takes: patterns, regular expressions searched in the path, the first that is found
wins. A value is a role, or axes, which make a matrix. A `Role` out of `roles(params)` holds for the
leaf of exactly that path."""


def roles(
    params: Any, *, axes: Axes = None, overrides: RoleOverrides | None = None
) -> dict[str, Role]:
    """Return the role of every leaf by its path, each with its reason.

    Reads what frameworks write beside their arrays: names of axes in Flax and Penzai, the classes
    of Equinox modules and NNX variables. What it returns may be given as `roles=` to an optimizer.

    Args:
        params: The parameters; shapes are enough (`jax.eval_shape`).
        axes: The declared axes, as for `per_stack`; a declared leaf of rank 3 or more is a matrix.
        overrides: `{pattern: role or axes}`, see `partition_by_role`.

    Raises:
        ValueError: A leaf of rank 3 or more is neither named nor declared; the message says how.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> params = {"dense": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}
        >>> for path, role in gs.roles(params).items():
        ...     print(path, role.name, "-", role.why)
        dense/bias vector - rank 1
        dense/kernel matrix - rank 2, (in, out)
    """
    words = Overrides(overrides)
    return decide_roles(_role, words, FirstOf(words.axes, axes), arrays(params))


class Overrides:
    """What the user says of roles, to be asked by path."""

    def __init__(self, said: RoleOverrides | None):
        self._patterns: list[tuple[int, str, Role]] = []
        self._paths: dict[str, tuple[int, Role]] = {}
        for index, (pattern, role) in enumerate((said or {}).items()):
            if isinstance(role, Role):
                self._paths[pattern] = (index, role)
            elif isinstance(role, MatrixAxes):
                self._patterns.append(
                    (index, pattern, Role("matrix", f"you said {pattern!r}", role))
                )
            elif role in get_args(RoleName):
                name = cast(RoleName, role)
                self._patterns.append((index, pattern, Role(name, f"you said {pattern!r}")))
            else:
                known = ", ".join(get_args(RoleName))
                raise ValueError(
                    f"roles[{pattern!r}] is {role!r}; a role is one of {known}, or MatrixAxes"
                )

    def role(self, path: str) -> Role | None:
        """Return the first word on the leaf at `path`."""
        found = [self._paths[path]] if path in self._paths else []
        found += [(i, role) for i, pattern, role in self._patterns if re.search(pattern, path)]
        return min(found, key=lambda pair: pair[0], default=(0, None))[1]

    def mention(self, name: RoleName) -> bool:
        """Whether any word is that role."""
        roles = [role for _, _, role in self._patterns] + [r for _, r in self._paths.values()]
        return any(role.name == name for role in roles)

    def axes(self, path: str, leaf: Any) -> MatrixAxes | None:
        """Return the axes that the first word on the leaf gives: a form of `axes=`."""
        del leaf
        role = self.role(path)
        return role.axes if role else None


def decide_roles(decide: Callable, words: Overrides, axes: Axes, params: Any) -> dict[str, Role]:
    """Return what `decide` says of every leaf, by its path."""
    leaves = declare(axes, params)
    shapes = {leaf.path: tuple(leaf.leaf.shape) for leaf in leaves}
    pairs = zip(leaves, metadata(params), strict=True)
    return {leaf.path: decide(leaf, words, shapes, note) for leaf, note in pairs}


def _role(leaf: Declared, words: Overrides, shapes: Shapes, note: Metadata) -> Role:
    if said := words.role(leaf.path):
        return said
    rank = len(leaf.leaf.shape)
    if rank < 2:
        return Role("vector", f"rank {rank}")
    if named := role_by_name(leaf.path, shapes, note.aliases):
        return Role(named[0], f"named {named[1]!r}")
    if told := by_axis_names(note.axis_names):
        name, axes = told
        if name != "matrix" or leaf.axes is None:
            return Role(name, f"axes named {', '.join(note.axis_names)}", axes)
    layout = layout_by_name(leaf.path, shapes, note.aliases)
    try:
        axes = as_matrix(leaf._replace(layout=layout)).axes
    except ValueError as error:
        raise ValueError(
            f"{error}. If it is no matrix: roles={{{leaf.path!r}: 'vector'}}"
        ) from None
    says = "axes declared" if leaf.axes or not layout else layout.says
    return Role("matrix", f"rank {rank}, {says}", axes)


def settled_role(leaf: Declared, words: Overrides, shapes: Shapes, note: Metadata) -> Role:
    """Return the role that holds with and without what the framework wrote beside the leaf.

    Raises:
        ValueError: The leaf is ambiguous, or the two differ.
    """
    informed = _informed(leaf, words, shapes, note) if any(note) else None
    try:
        role = _role(leaf, words, shapes, Metadata())
    except ValueError as error:
        remedy = ". Or by what the framework wrote beside it: roles=gradsmith.roles(params)"
        raise ValueError(f"{error}{remedy if informed else ''}") from None
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
    return role.axes and role.axes.sides(len(leaf.leaf.shape))
