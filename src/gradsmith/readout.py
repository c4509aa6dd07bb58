"""Which parameters to evaluate: the state of an optimizer is asked, and one of its parts answers.

It imports nothing of gradsmith and knows no optimizer of it. So the race may ask as well, and a
stranger's state can answer as ours do: by a method.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

AVERAGED, UNSHIFTED = "averaged_params", "unshifted_params"
"""The methods by which a part of a state answers; both go from parameters to parameters."""


def eval_params(state: Any, params: Any) -> Any:
    """Return the parameters to evaluate: those that are trained, unless the state knows better.

    Some optimizers average their weights, or take gradients at a shifted point. Their state has
    what leads from the parameters to those that are meant. Such are `average_weights`,
    `average_tail`, `ema_nesterov`, and `optax.contrib.schedule_free`. They are found anywhere in
    the state: in chains, partitions and masks, under `optax.MultiSteps` or
    `optax.inject_hyperparams`. If there is none in the state, the result is `params`.

    A part of your own is found by a method: `averaged_params(params)` if it keeps an average,
    `unshifted_params(params)` if the parameters are a shifted point. What stands last in a chain
    is read first. A state that was restored as dicts has lost its methods. Restore it into the form
    that `init` gives.

    Shapes, dtypes and shardings are those of `params`. Costs a copy of the parameters, and no
    product. Works under `jit`, `vmap` and `grad`.

    Args:
        state: The state of the whole optimizer.
        params: The parameters that belong to it.

    Raises:
        ValueError: The state has two averages, one part inside another, or an average behind a
            shift, which would average shifted points. The message names the paths.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> optimizer = optax.chain(optax.sgd(1.0), gs.average_weights(0.5))
        >>> params = jnp.array([0.0])
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     updates, state = optimizer.update(jnp.array([-1.0]), state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> print(params, gs.eval_params(state, params).round(3))
        [2.] [1.667]
        >>> print(gs.eval_params(optax.sgd(1.0).init(params), params))
        [2.]
    """
    parts = list(_parts(state))
    if not parts:
        return params
    _refuse(parts)
    read = params
    for _, _, reader in reversed(parts):
        read = reader(read)
    return jax.tree.map(lambda param, new: new.astype(param.dtype), params, read)


def map_kept(function: Callable[[Any, Any], Any], kept: Any, params: Any) -> Any:
    """Return `function(kept, param)` of every leaf; a parameter that was masked stays as it is."""
    is_masked = lambda node: isinstance(node, optax.MaskedNode)
    read = lambda kept, param: param if is_masked(kept) else function(kept, param)
    return jax.tree.map(read, kept, params, is_leaf=is_masked)


Part = tuple[str, str, Callable[[Any], Any]]
"""Where a part stands in the state, its method, and that method."""


def _parts(state: Any) -> Iterator[Part]:
    is_part = lambda node: _answer(node) is not None
    for path, node in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_part):
        if (answer := _answer(node)) is None:
            continue
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "the root"
        within = jax.tree.leaves(node, is_leaf=lambda x, node=node: x is not node and is_part(x))
        if any(map(is_part, within)):
            raise ValueError(
                f"the state at {name} says which parameters to evaluate, and so does a part inside "
                f"it, whose answer is about other parameters; keep one"
            )
        yield name, *answer


def _answer(node: Any) -> tuple[str, Callable[[Any], Any]] | None:
    if isinstance(node, optax.contrib.ScheduleFreeState):
        return AVERAGED, lambda params: map_kept(_of_schedule_free(node), node.z, params)
    for method in (AVERAGED, UNSHIFTED):
        if callable(reader := getattr(node, method, None)):
            return method, reader
    return None


def _of_schedule_free(state: Any) -> Callable[[Any, Any], Any]:
    def read(z, y):
        wide = jnp.promote_types(y.dtype, jnp.float32)
        one = state._replace(b1=jnp.asarray(state.b1).astype(wide), z=z.astype(wide))
        return optax.contrib.schedule_free_eval_params(one, y.astype(wide))

    return read


def _refuse(parts: list[Part]) -> None:
    paths = [path for path, method, _ in parts if method == AVERAGED]
    if len(paths) > 1:
        raise ValueError(
            f"the state has {len(paths)} averages of the weights, at {', '.join(paths)}; keep one: "
            f"behind a partition it averages the weights of all groups"
        )
    for (shift, method, _), (average, after, _) in itertools.pairwise(parts):
        if method == UNSHIFTED and after == AVERAGED:
            raise ValueError(
                f"the average at {average} stands behind the shift at {shift} and averages shifted "
                f"weights; put it before the shift"
            )
