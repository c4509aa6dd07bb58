"""Which leaf is what, and who optimizes it.

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
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, cast, get_args

import jax
import optax

from .axes import MatrixAxes
from .conventions import RoleName, Shapes, layout_by_name, role_by_name
from .declare import Axes, Declared, FirstOf, as_matrix, declare
from .journal import journal
from .metadata import Metadata, by_axis_names, metadata
from .paths import arrays


class Role(NamedTuple):
    """What a leaf is, why we think so, and its axes if it is a matrix."""

    name: RoleName
    why: str
    axes: MatrixAxes | None = None


Said = Mapping[str, str | MatrixAxes | Role]
"""What `roles=` takes: patterns, regular expressions searched in the path, the first that is found
wins. A value is a role, or axes, which make a matrix. A `Role` out of `roles(params)` holds for the
leaf of exactly that path."""


def roles(params: Any, *, axes: Axes = None, overrides: Said | None = None) -> dict[str, Role]:
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
    words = _Words(overrides)
    return _decide(_role, words, FirstOf(words.axes, axes), arrays(params))


def partition_by_role(
    matrices: optax.GradientTransformation | Callable[[Axes], optax.GradientTransformation],
    others: optax.GradientTransformation,
    *,
    embedding: optax.GradientTransformation | None = None,
    head: optax.GradientTransformation | None = None,
    axes: Axes = None,
    roles: Said | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Optimize hidden matrices by one transformation and everything else by others.

    Nothing is sent anywhere silently: a leaf of rank 3 or more that nobody declared is an error
    that names it, and `describe` shows who got what and why. None, `optax.MaskedNode` and what is
    no array, such as the functions in an Equinox module, are left alone.

    Args:
        matrices: The transformation of the hidden matrices; or a function of `axes` that returns
            it, so that the axes are written once.
        others: The transformation of all leaves that have none of their own.
        embedding: Of embeddings; `others` by default.
        head: Of output heads; `others` by default.
        axes: Which axes of which leaf are fan-in, fan-out and stack, as for `per_stack`.
        roles: `{pattern: role or axes}`, regular expressions searched in the path, where names and
            ranks tell the wrong thing. A role is 'matrix', 'vector', 'embedding', 'head', or
            'frozen': never updated, and without state. `MatrixAxes` make a matrix of these axes;
            a transformation that was built without them learns them only through a function of
            `axes`. What `roles(params)` returns may stand here as it is.

    Raises:
        ValueError: At `init`, for a leaf whose role is ambiguous.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> optimizer = gs.partition_by_role(
        ...     matrices=lambda axes: optax.chain(
        ...         optax.trace(0.95),
        ...         gs.per_matrix(gs.matrix.newton_schulz, axes=axes),
        ...         optax.scale_by_learning_rate(0.02),
        ...     ),
        ...     others=optax.adamw(3e-4),
        ...     embedding=optax.adam(3e-3),
        ...     roles={"blocks": gs.MatrixAxes(-2, -1, batch_axis=0), "teacher": "frozen"},
        ... )
        >>> params = {"blocks": jnp.ones((12, 4, 8)), "wte": jnp.ones((9, 4)), "bias": jnp.zeros(8)}
        >>> state = optimizer.init(params)
    """
    words = _Words(roles)
    told = FirstOf(words.axes, axes)
    if not isinstance(matrices, optax.GradientTransformation):
        matrices = matrices(told)
    own = {"embedding": embedding, "head": head}
    own["frozen"] = optax.set_to_zero() if words.mention("frozen") else None
    groups: dict[Hashable, optax.GradientTransformation] = {"matrices": matrices, "others": others}
    groups.update({name: group for name, group in own.items() if group is not None})

    def labels(params):
        decided = _decide(_settled, words, told, params)
        journal().roles.update(decided)
        wanted = lambda role: "matrices" if role.name == "matrix" else role.name
        group_of = lambda role: wanted(role) if wanted(role) in groups else "others"
        chosen = {path: group_of(role) for path, role in decided.items()}
        journal().groups.update(chosen)
        return jax.tree.unflatten(jax.tree.structure(params), list(chosen.values()))

    partition = optax.partition(groups, labels)
    return optax.GradientTransformationExtraArgs(
        lambda params: partition.init(arrays(params)),
        lambda updates, state, params=None, **extra: partition.update(
            arrays(updates), state, arrays(params), **extra
        ),
    )


class _Words:
    """What the user says of roles, to be asked by path."""

    def __init__(self, said: Said | None):
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


def _decide(decide: Callable, words: _Words, axes: Axes, params: Any) -> dict[str, Role]:
    leaves = declare(axes, params)
    shapes = {leaf.path: tuple(leaf.leaf.shape) for leaf in leaves}
    pairs = zip(leaves, metadata(params), strict=True)
    return {leaf.path: decide(leaf, words, shapes, note) for leaf, note in pairs}


def _role(leaf: Declared, words: _Words, shapes: Shapes, note: Metadata) -> Role:
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


def _settled(leaf: Declared, words: _Words, shapes: Shapes, note: Metadata) -> Role:
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


def _informed(leaf: Declared, words: _Words, shapes: Shapes, note: Metadata) -> Role | None:
    try:
        return _role(leaf, words, shapes, note)
    except ValueError:
        return None


def _sides(role: Role, leaf: Declared) -> tuple | None:
    return role.axes and role.axes.sides(len(leaf.leaf.shape))
