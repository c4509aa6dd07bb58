"""Which leaf is what, and who optimizes it.

Roles, in the order in which they are decided; the first that applies wins:

1. what the user says: `roles={pattern: role}`, patterns searched in the path;
2. rank 0 or 1: a vector;
3. a name that says vector (a scanned model stores its biases as `(layers, n)`), output head or
   embedding;
4. rank 2, or axes that the user declared: a matrix;
5. anything else is ambiguous, and an error.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import optax

from .axes import Axes, Declared, as_matrix, declare
from .journal import journal

RoleName = Literal["matrix", "vector", "embedding", "head"]

_NAMES: dict[RoleName, str] = {
    "vector": r"bias|scale|gain|gamma|beta",
    "head": r"(lm_|output_)?head|unembed(ding)?|logits|classifier",
    "embedding": r".*embed.*|wte|wpe|(tok_|pos_)?emb",
}


class Role(NamedTuple):
    """What a leaf is, and why we think so."""

    name: RoleName
    why: str


def roles(
    params: Any, *, axes: Axes = None, overrides: Mapping[str, str] | None = None
) -> dict[str, Role]:
    """Return the role of every leaf by its path, each with its reason.

    Args:
        params: The parameters; shapes are enough (`jax.eval_shape`).
        axes: The declared axes, as for `per_stack`; a declared leaf of rank 3 or more is a matrix.
        overrides: `{pattern: role}`, regular expressions searched in the path, the first wins.

    Raises:
        ValueError: A leaf of rank 3 or more is neither named nor declared; the message says how.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> params = {"dense": {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}}
        >>> for path, role in gs.roles(params).items():
        ...     print(path, role.name, "-", role.why)
        dense/bias vector - rank 1
        dense/kernel matrix - rank 2
    """
    return _decide(params, axes, _checked(overrides))


def _checked(overrides: Mapping[str, str] | None) -> Mapping[str, RoleName]:
    for pattern, name in (overrides or {}).items():
        if name not in get_args(RoleName):
            known = ", ".join(get_args(RoleName))
            raise ValueError(f"roles[{pattern!r}] is {name!r}; a role is one of {known}")
    return cast(Mapping[str, RoleName], overrides or {})


def _decide(params: Any, axes: Axes, overrides: Mapping[str, RoleName]) -> dict[str, Role]:
    return {leaf.path: _role(leaf, overrides) for leaf in declare(axes, params)}


def _role(declared: Declared, overrides: Mapping[str, RoleName]) -> Role:
    path, leaf, _ = declared
    for pattern, name in overrides.items():
        if re.search(pattern, path):
            return Role(name, f"you said {pattern!r}")
    rank = len(leaf.shape)
    if rank < 2:
        return Role("vector", f"rank {rank}")
    for part in path.lower().split("/"):
        for name, pattern in _NAMES.items():
            if re.fullmatch(pattern, part):
                return Role(name, f"named {part!r}")
    try:
        as_matrix(declared)
    except ValueError as error:
        raise ValueError(f"{error}. If it is no matrix: roles={{{path!r}: 'vector'}}") from None
    return Role("matrix", "rank 2" if rank == 2 else f"rank {rank}, axes declared")


def partition_by_role(
    matrices: optax.GradientTransformation | Callable[[Axes], optax.GradientTransformation],
    others: optax.GradientTransformation,
    *,
    axes: Axes = None,
    roles: Mapping[str, str] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Optimize hidden matrices by one transformation and everything else by another.

    Embeddings, output heads and leaves of rank 0 and 1 are the others. Nothing is sent anywhere
    silently: a leaf of rank 3 or more that nobody declared is an error that names it, and
    `describe` shows who got what and why.

    Args:
        matrices: The transformation of the hidden matrices; or a function of `axes` that returns
            it, so that the axes are written once.
        others: The transformation of all other leaves.
        axes: Which axes of which leaf are fan-in, fan-out and stack, as for `per_stack`.
        roles: `{pattern: role}`, regular expressions searched in the path, where names and ranks
            tell the wrong thing; a role is 'matrix', 'vector', 'embedding' or 'head'.

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
        ...     axes={"blocks": gs.MatrixAxes(-2, -1, batch_axis=0)},
        ... )
        >>> params = {"blocks": jnp.ones((12, 4, 8)), "bias": jnp.zeros(8)}
        >>> state = optimizer.init(params)
    """
    overrides = _checked(roles)

    def labels(params):
        decided = _decide(params, axes, overrides)
        journal().roles.update(decided)
        groups = ["matrices" if role.name == "matrix" else "others" for role in decided.values()]
        return jax.tree.unflatten(jax.tree.structure(params), groups)

    if not isinstance(matrices, optax.GradientTransformation):
        matrices = matrices(axes)
    return optax.partition({"matrices": matrices, "others": others}, labels)
