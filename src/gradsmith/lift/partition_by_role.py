"""Who optimizes which leaf."""

from collections.abc import Callable, Hashable

import jax
import optax

from ..layout.decision_log import decision_log
from ..layout.declare import Axes, FirstOf
from ..layout.paths import arrays
from ..layout.roles import Overrides, RoleOverrides, decide_roles, settled_role


def partition_by_role(
    matrices: optax.GradientTransformation | Callable[[Axes], optax.GradientTransformation],
    others: optax.GradientTransformation,
    *,
    embedding: optax.GradientTransformation | None = None,
    head: optax.GradientTransformation | None = None,
    axes: Axes = None,
    roles: RoleOverrides | None = None,
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
    words = Overrides(roles)
    told = FirstOf(words.axes, axes)
    if not isinstance(matrices, optax.GradientTransformation):
        matrices = matrices(told)
    own = {"embedding": embedding, "head": head}
    own["frozen"] = optax.set_to_zero() if words.mention("frozen") else None
    groups: dict[Hashable, optax.GradientTransformation] = {"matrices": matrices, "others": others}
    groups.update({name: group for name, group in own.items() if group is not None})

    def labels(params):
        decided = decide_roles(settled_role, words, told, params)
        decision_log().roles.update(decided)
        wanted = lambda role: "matrices" if role.name == "matrix" else role.name
        group_of = lambda role: wanted(role) if wanted(role) in groups else "others"
        chosen = {path: group_of(role) for path, role in decided.items()}
        decision_log().groups.update(chosen)
        return jax.tree.unflatten(jax.tree.structure(params), list(chosen.values()))

    partition = optax.partition(groups, labels)
    return optax.GradientTransformationExtraArgs(
        lambda params: partition.init(arrays(params)),
        lambda updates, state, params=None, **extra: partition.update(
            arrays(updates), state, arrays(params), **extra
        ),
    )
