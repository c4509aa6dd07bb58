"""Who optimizes which leaf."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ..layout.decision_log import decision_log
from ..layout.declare import Axes, FirstOf
from ..layout.paths import arrays, is_none, leaves_with_path, path_name
from ..layout.patterns import Patterns
from ..layout.roles import Overrides, Role, RoleOverrides, decide_roles, settled_role
from ..xla.dtypes import wide_dtype


def partition_by_role(
    matrices: optax.GradientTransformation | Callable[[Axes], optax.GradientTransformation],
    others: optax.GradientTransformation,
    *,
    embedding: optax.GradientTransformation | None = None,
    head: optax.GradientTransformation | None = None,
    lr_scales: Mapping[str, ArrayLike] | None = None,
    axes: Axes = None,
    roles: RoleOverrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Optimize hidden matrices by one transformation and everything else by others.

    Nothing is decided silently. Leaves of rank 3 or more that nobody declared are an error
    that names them, and `describe` shows who got what and why. It leaves alone None,
    `optax.MaskedNode` and what is no array, such as the functions in an Equinox module.

    Args:
        matrices: The transformation of the hidden matrices; or a function of `axes` that returns
            it, so that the axes are written once.
        others: The transformation of all leaves that have none of their own.
        embedding: The transformation of embeddings; by default `others`.
        head: The transformation of output heads; by default `others`.
        lr_scales: `{pattern: number}`, patterns as in `roles`. The updates of a leaf are multiplied
            by the number of the first pattern that is found in its path, and so is the learning
            rate of the transformation that made them, weight decay included.
        axes: Which axes of which leaf are fan-in, fan-out and stack, as for `per_stack`.
        roles: `{pattern: role or axes}` for leaves of which names and ranks tell the wrong thing.
            Patterns are regular expressions, searched in the path. A role is 'matrix', 'vector',
            'embedding', 'head', or 'frozen': never updated, and without state. `MatrixAxes` make
            a matrix of these axes; then `matrices` must be a function of `axes`, or it does not
            learn them. What `roles(params)` returns may stand here too.

    Raises:
        ValueError: A number in `lr_scales` is negative; at `init`, for leaves whose role is
            ambiguous, and for a pattern that is found in no path.

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
        ...     lr_scales={"head|bias": 0.1},
        ...     roles={"blocks": gs.MatrixAxes(-2, -1, batch_axis=0)},
        ... )
        >>> params = {"blocks": jnp.ones((12, 4, 8)), "wte": jnp.ones((9, 4)), "bias": jnp.zeros(8)}
        >>> state = optimizer.init(params)
    """
    words = Overrides(roles)
    rates = Patterns("lr_scales", lr_scales or {})
    for pattern, scale in (lr_scales or {}).items():
        if not isinstance(scale, jax.core.Tracer) and not np.asarray(scale) >= 0:
            raise ValueError(f"lr_scales[{pattern!r}] is {scale}; a learning rate is at least 0")
    declared = FirstOf(words.declaration, axes)
    if not isinstance(matrices, optax.GradientTransformation):
        matrices = matrices(declared)
    frozen = optax.set_to_zero() if words.mention("frozen") else None
    by_role = {"embedding": embedding, "head": head, "frozen": frozen}
    groups: dict[Hashable, optax.GradientTransformation] = {"matrices": matrices, "others": others}
    groups |= {role: tx for role, tx in by_role.items() if tx is not None}

    def group_of(role: Role) -> str:
        name = "matrices" if role.name == "matrix" else role.name
        return name if name in groups else "others"

    def labels(params: Any) -> Any:
        rates.refuse_unmatched(params)
        decided = decide_roles(settled_role, words, declared, params)
        chosen = {path: group_of(role) for path, role in decided.items()}
        decision_log().roles.update(decided)
        decision_log().groups.update(chosen)
        return jax.tree.unflatten(jax.tree.structure(params), list(chosen.values()))

    partition = optax.partition(groups, labels)

    def init_fn(params: Any) -> Any:
        for path, _ in leaves_with_path(params):
            if found := rates.first(path):
                decision_log().rates[path] = found[1]
        return partition.init(arrays(params))

    def scaled(path: tuple, update: jax.Array) -> jax.Array:
        found = rates.first(path_name(path))
        if found is None:
            return update
        wide = update.astype(wide_dtype(update.dtype))
        return (wide * jnp.asarray(found[1], wide.real.dtype)).astype(update.dtype)

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updates, params = arrays(updates), arrays(params)
        if params is not None:  # Optax wants trees of one structure
            given = lambda update, param: None if update is None else param
            params = jax.tree.map(given, updates, params, is_leaf=is_none)
        updates, state = partition.update(updates, state, params, **extra)
        return jax.tree_util.tree_map_with_path(scaled, updates) if lr_scales else updates, state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
