"""Decoupled weight decay, of all weights or of those that the step moves towards zero."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Inexact

from ..layout.paths import all_paths, is_none, longest_prefix, unknown_paths
from .arguments import ScalarOrSchedule, check_fixed, check_not_negative, is_known
from .leaves import map_updates
from .schedules import init_schedule, read_schedule
from .sides import stands

Mask = Any
"""Which weights decay: a tree of bools, or a prefix of one, or a function of the parameters that
returns it; None for all."""


def decay_weights(rate: ScalarOrSchedule, mask: Mask = None) -> optax.GradientTransformation:
    """Add `rate * params` to the direction, so that the weights shrink by `learning rate * rate`.

    A direction: stands just before the learning rate. A concrete rate of zero needs no `params`.

    Args:
        rate: The decay; not negative. A schedule is called with the number of steps so far. It too
            is multiplied by the learning rate of the step.
        mask: Which weights decay: a tree of bools, or a prefix of one, or a function of the
            parameters that returns it. By default all.

    Raises:
        ValueError: The rate is negative; the mask has other keys than the parameters; or `update`
            gets no params while the rate is not zero.
        TypeError: The mask is one bool, or an array.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.decay_weights(0.1, mask=lambda params: {"w": True, "b": False})
        >>> params = {"w": jnp.array([2.0]), "b": jnp.array([2.0])}
        >>> zeros = {"w": jnp.array([0.0]), "b": jnp.array([0.0])}
        >>> print(tx.update(zeros, tx.init(params), params)[0])
        {'b': Array([0.], dtype=float32), 'w': Array([0.2], dtype=float32)}

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, arXiv:1711.05101.
    """
    return _decay("decay_weights", rate, mask, lambda update, weight: weight)


def decay_weights_cautiously(
    rate: ScalarOrSchedule, mask: Mask = None
) -> optax.GradientTransformation:
    """Add `rate * params` where that goes the way of the direction, and nothing elsewhere.

    A weight decays only if the step moves it towards zero anyway, or does not move it: if
    `update * weight >= 0`. So no decay works against the loss.

    A direction: stands just before the learning rate, after everything that can change a sign.

    Args:
        rate: The decay, as for `decay_weights`.
        mask: Which weights may decay, as for `decay_weights`.

    Raises:
        ValueError: As for `decay_weights`.
        TypeError: As for `decay_weights`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.decay_weights_cautiously(0.5)
        >>> params = jnp.array([2.0, -2.0, 2.0])
        >>> print(tx.update(jnp.array([1.0, 1.0, 0.0]), tx.init(params), params)[0])
        [2. 1. 1.]

    References:
        Chen et al., Cautious Weight Decay, 2025, arXiv:2510.12402. Codes differ where the update is
        zero: here such a weight decays, as in the paper; with `> 0` instead it would stay.
    """

    def agreeing(update, weight):
        agrees = (update * weight.conj().astype(update.dtype)).real >= 0
        return jnp.where(agrees, weight, jnp.zeros_like(weight))

    return _decay("decay_weights_cautiously", rate, mask, agreeing)


def _decay(
    name: str,
    rate: ScalarOrSchedule,
    mask: Mask,
    decaying: Callable[[Inexact[Array, "*shape"], Inexact[Array, "*shape"]], Array],
) -> optax.GradientTransformation:
    check_not_negative(name, rate=rate)
    check_fixed(name, mask=mask)
    if isinstance(mask, bool):
        raise TypeError(
            f"{name}: a mask is a tree of bools or a function of the parameters, got {mask}. For "
            f"all weights: lambda params: True; for none, leave out the decay. With "
            f"optax.inject_hyperparams, which calls all functions, name the mask in static_args"
        )
    if is_known(rate) and rate == 0:
        return optax.identity()

    def update_fn(updates, state, params=None):
        if params is None:
            raise ValueError(
                f"weight decay of {rate} needs the parameters: call update(grads, state, params), "
                f"or leave out the decay"
            )
        now, state = read_schedule(rate, state)

        def add(update, weight):
            part = jnp.asarray(now, weight.dtype) * decaying(update, weight)
            return update + part.astype(update.dtype)

        which = mask(params) if callable(mask) else mask
        if which is None:
            return map_updates(add, updates, params), state
        decayed = map_updates(add, _chosen(name, which, updates), params)
        either = lambda new, old: old if new is None else new
        return jax.tree.map(either, decayed, updates, is_leaf=is_none), state

    def init_fn(params):
        which = mask(params) if callable(mask) else mask
        if which is not None and jax.tree.leaves(params):  # what does not fit is refused here
            _chosen(name, which, params)
        return init_schedule(rate)

    return stands("direction", name, optax.GradientTransformation(init_fn, update_fn))


def _chosen(name: str, mask: Any, tree: Any) -> Any:
    """Return the tree with None for what does not decay.

    Raises:
        ValueError: The mask has other keys than the tree.
    """
    try:
        return jax.tree.map(lambda decays, some: some if decays else None, mask, tree)
    except ValueError:
        masked, paths = all_paths(mask), all_paths(tree)
        listed = lambda found: ", ".join(map(repr, found))
        unknown = unknown_paths(masked, paths)
        missing = [path for path in paths if longest_prefix(path, masked) is None]
        if unknown:
            fault = f"names {listed(unknown)}, where the tree has no leaf"
        elif missing:
            fault = f"says nothing of {listed(missing)}"
        else:
            raise
        raise ValueError(
            f"{name}: the mask {fault}; there are {listed(paths)}. Give a tree of bools like the "
            f"parameters, a prefix of one, or a function of the parameters that returns it"
        ) from None
