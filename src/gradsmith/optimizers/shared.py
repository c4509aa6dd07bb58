"""What recipes share: who gets which leaf, what decays, and the arguments that say so."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

import jax
import optax
from jax.typing import ArrayLike, DTypeLike

from ..layout.axes import MatrixAxes
from ..layout.conventions import role_by_name
from ..layout.declare import Axes
from ..layout.paths import leaves_with_path
from ..layout.roles import RoleOverrides
from ..lift.partition_by_role import partition_by_role
from ..lift.per_stack import per_stack
from ..sites.placement import Placement
from ..transforms.adam import scale_by_adam
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.momentum import momentum as momentum_of
from ..transforms.sides import scale_by_learning_rate
from ..transforms.weight_decay import Mask, decay_weights

Recipe = TypeVar("Recipe", bound=Callable[..., Any])


class Shared(TypedDict, total=False):
    """The arguments of every recipe for hidden matrices; `by_role` has their defaults."""

    weight_decay: ScalarOrSchedule | None
    weight_decay_mask: Mask
    adam_learning_rate: ScalarOrSchedule | None
    adam_b1: ArrayLike
    adam_b2: ArrayLike
    adam_eps: ArrayLike
    adam_weight_decay: ScalarOrSchedule | None
    embedding: optax.GradientTransformation | None
    head: optax.GradientTransformation | None
    lr_scales: Mapping[str, ArrayLike] | None
    axes: Axes
    roles: RoleOverrides | None


def takes_shared(recipe: Recipe) -> Recipe:
    """Write out `**shared` in the signature and in the docstring of a recipe, as `by_role` has it.

    So `help` shows every argument, and `optax.inject_hyperparams` finds the numbers among them.
    """
    own = inspect.signature(recipe)
    names = Shared.__annotations__
    shared = [p for name, p in inspect.signature(by_role).parameters.items() if name in names]
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    recipe.__signature__ = own.replace(parameters=parameters + shared)  # pyright: ignore[reportFunctionMemberAccess]
    shared_args = (inspect.getdoc(by_role) or "").partition("    weight_decay: ")[1:]
    own_doc = inspect.getdoc(recipe) or ""
    recipe.__doc__ = own_doc.replace("    **shared: See `Shared`.", "".join(shared_args))
    return recipe


def by_role(
    direction: Callable[[Axes], optax.GradientTransformation],
    learning_rate: ScalarOrSchedule,
    adam_share: float = 1.0,
    has_rate: bool = False,
    *,
    weight_decay: ScalarOrSchedule | None = None,
    weight_decay_mask: Mask = None,
    adam_learning_rate: ScalarOrSchedule | None = None,
    adam_b1: ArrayLike = 0.9,
    adam_b2: ArrayLike = 0.95,
    adam_eps: ArrayLike = 1e-10,
    adam_weight_decay: ScalarOrSchedule | None = None,
    embedding: optax.GradientTransformation | None = None,
    head: optax.GradientTransformation | None = None,
    lr_scales: Mapping[str, ArrayLike] | None = None,
    axes: Axes = None,
    roles: RoleOverrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Step the hidden matrices along a direction, and everything else by AdamW.

    Args:
        direction: Makes the direction of the matrices, from their axes.
        learning_rate: That of the matrices.
        adam_share: By what that is multiplied for AdamW, if `adam_learning_rate` is not given.
        has_rate: Whether `direction` applies the learning rate, and a decay if there is one, by
            itself: it is then the whole step of the matrices.
        weight_decay: Decoupled, times the learning rate of the leaf. By default none, and `update`
            then needs no `params`.
        weight_decay_mask: What decays: a tree of bools, or a prefix of one, or a function of the
            parameters that returns it. By default all but vectors: no biases, norms and gains.
        adam_learning_rate: That of AdamW, which gets all leaves that are no hidden matrices. By
            default as `learning_rate` says.
        adam_b1: The part of AdamW's mean that survives a step.
        adam_b2: The part of its mean square that survives a step.
        adam_eps: Added to the root of its mean square.
        adam_weight_decay: That of AdamW's leaves; by default `weight_decay`.
        embedding: A transformation for the embeddings, complete with its learning rate, instead of
            AdamW.
        head: The same for the output heads.
        lr_scales: `{pattern: number}`: what the learning rate of a leaf is multiplied by, the first
            pattern that is found in its path; see `partition_by_role`.
        axes: Which axes of which leaf are fan-in, fan-out and stack; see `per_stack`.
        roles: `{pattern: role or axes}` where names and ranks say the wrong thing; see
            `partition_by_role`.
    """
    if adam_learning_rate is None:
        adam_learning_rate = _times(adam_share, learning_rate)
    adam_decay = weight_decay if adam_weight_decay is None else adam_weight_decay
    mask = weight_decay_mask

    def adamw(decay: ScalarOrSchedule | None) -> optax.GradientTransformation:
        adam = scale_by_adam(adam_b1, adam_b2, adam_eps)
        return stepped(adam, adam_learning_rate, decay, mask)

    def matrices(axes: Axes) -> optax.GradientTransformation:
        if has_rate:
            return direction(axes)
        return stepped(direction(axes), learning_rate, weight_decay, mask)

    return partition_by_role(
        matrices,
        others=adamw(None if mask is None else adam_decay),  # the vectors
        embedding=adamw(adam_decay) if embedding is None else embedding,
        head=adamw(adam_decay) if head is None else head,
        lr_scales=lr_scales,
        axes=axes,
        roles=roles,
    )


def stepped(
    direction: optax.GradientTransformation,
    learning_rate: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule | None,
    mask: Mask,
) -> optax.GradientTransformation:
    """Go along a direction, with decoupled weight decay."""
    decay = optax.identity() if weight_decay is None else decay_weights(weight_decay, mask)
    return optax.chain(direction, decay, scale_by_learning_rate(learning_rate))


def with_tables(
    shared: Shared,
    learning_rate: ScalarOrSchedule,
    *,
    embedding: optax.GradientTransformation,
    head: optax.GradientTransformation,
) -> Shared:
    """Return the arguments with directions for embeddings and heads, unless they have their own.

    These step at the rate of the matrices, and decay as AdamW's leaves do.
    """
    decay, of_adamw = shared.get("weight_decay"), shared.get("adam_weight_decay")
    decay = decay if of_adamw is None else of_adamw
    mask, out = shared.get("weight_decay_mask"), shared.copy()
    if shared.get("embedding") is None:
        out["embedding"] = stepped(embedding, learning_rate, decay, mask)
    if shared.get("head") is None:
        out["head"] = stepped(head, learning_rate, decay, mask)
    return out


def vectors_last(path: str, leaf: Any) -> MatrixAxes:
    """Return the axes of an embedding: its vectors lie along the last one."""
    del path
    return MatrixAxes(range(leaf.ndim - 1), -1)


def behind_momentum(
    rule: optax.GradientTransformation,
    momentum: ArrayLike,
    dtype: DTypeLike | None,
    placement: Placement,
) -> Callable[[Axes], optax.GradientTransformation]:
    """Return the direction of a rule for stacks behind Keller Jordan's momentum, for `by_role`."""

    def direction(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            momentum_of(momentum, dtype=dtype), per_stack(rule, axes=axes, placement=placement)
        )

    return direction


def no_vectors(params: Any) -> Any:
    """Return which leaves are no vectors, by rank and by name: a mask for weight decay."""
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves_with_path(params)}
    named = lambda path: (role_by_name(path, shapes) or ("",))[0]
    decays = [len(shape) > 1 and named(path) != "vector" for path, shape in shapes.items()]
    return jax.tree.unflatten(jax.tree.structure(params), decays)


def _times(factor: float, rate: ScalarOrSchedule) -> ScalarOrSchedule:
    return (lambda count: factor * rate(count)) if callable(rate) else factor * rate
