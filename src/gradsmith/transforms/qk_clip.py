"""QK-clip: shrink query and key weights of the heads whose attention logits grow too large."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Shaped

from ..layout.paths import is_none, leaves_with_path, path_name
from .arguments import check_not_negative
from .sides import stands


def clip_qk(
    weights: Inexact[Array, "*shape"],
    max_logits: Shaped[Array, "*heads"],
    *,
    exponent: ArrayLike = 0.5,
    threshold: ArrayLike = 100.0,
) -> Inexact[Array, "*shape"]:
    """Return `weights min(1, threshold / max_logits)^exponent`, head by head.

    With an exponent `a` for the queries and `1 - a` for the keys, a head's logits shrink by
    `threshold / max_logits`, and a head below the threshold stays as it is.

    Args:
        weights: Those of the queries, or of the keys.
        max_logits: The largest logit of each head, over batch and positions, after the division by
            `sqrt(head_dim)`, before the softmax, and over all devices. Of as many axes as the
            weights, 1 where it is not the axis of heads: `(heads, 1)` for a kernel
            `(d, heads, head_dim)`; missing leading axes count as 1.
        exponent: 0.5 for both, usually. If several queries share a key, give the maximum of the
            group to the key and to all its queries. If all heads share a part (the rotary key of
            MLA), leave that part alone, and give its queries the exponent 1.
        threshold: The largest logit that is left alone.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> kernel = jnp.ones((1, 2, 1))  # two heads of dimension 1
        >>> print(gs.clip_qk(kernel, jnp.array([[400.0], [50.0]])).ravel())
        [0.5 1. ]

    References:
        Kimi Team, Kimi K2, 2025, arXiv:2507.20534, section 2.1.
    """
    limit = jnp.asarray(threshold, jnp.float32)
    factor = limit / jnp.maximum(max_logits.astype(jnp.float32), limit)
    factor = factor ** jnp.asarray(exponent, jnp.float32)
    factor = factor.reshape((1,) * (weights.ndim - factor.ndim) + factor.shape)
    return weights * factor.astype(weights.dtype)


def qk_clip(
    exponents: Mapping[str, ArrayLike], *, threshold: ArrayLike = 100.0
) -> optax.GradientTransformationExtraArgs:
    """Clip query and key weights after every step by the logits of the step.

    `update` takes the largest logits as an extra argument: `update(grads, state, params,
    max_logits=...)`, a tree whose leaves stand at, or above, the weights they belong to:
    `{"block_0": {"attention": maxima}}` holds for all weights below `block_0/attention`. The model
    reports them; see `clip_qk` for what they are.

    A displacement: stands last, after the learning rate: `update` returns what takes the stepped
    weights to the clipped ones. No state; the momentum is not touched.

    Args:
        exponents: `{pattern: exponent}`, regular expressions searched in the paths of the
            parameters: `{"query/kernel": 0.5, "key/kernel": 0.5}`. What matches none is left alone.
        threshold: The largest logit that is left alone.

    Raises:
        ValueError: The threshold is not positive; at `init`, if a pattern matches no parameter;
            at `update`, without `params`, or if a matched weight has no logits.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> optimizer = optax.chain(gs.muon(0.02), gs.qk_clip({"query|key": 0.5}))
        >>> params = {"query": jnp.ones((2, 2)), "key": jnp.ones((2, 2))}
        >>> state = optimizer.init(params)
        >>> zeros = {"query": jnp.zeros((2, 2)), "key": jnp.zeros((2, 2))}
        >>> logits = {"query": jnp.array([400.0]), "key": jnp.array([400.0])}
        >>> updates, state = optimizer.update(zeros, state, params, max_logits=logits)
        >>> print(optax.apply_updates(params, updates)["query"])
        [[0.5 0.5]
         [0.5 0.5]]

    References:
        As for `clip_qk`.
    """
    check_not_negative("qk_clip", threshold=threshold)

    def init_fn(params):
        paths = [path for path, _ in leaves_with_path(params)]
        for pattern in exponents:
            if paths and not any(re.search(pattern, path) for path in paths):
                raise ValueError(f"qk_clip: no parameter matches {pattern!r} of {', '.join(paths)}")
        return optax.EmptyState()

    def update_fn(updates, state, params=None, *, max_logits: Any = None, **extra_args):
        del extra_args
        if params is None or max_logits is None:
            missing = "parameters" if params is None else "largest logits"
            raise ValueError(
                f"qk_clip needs the {missing}: call update(grads, state, params, max_logits=...)"
            )
        logits = dict(leaves_with_path(max_logits))

        def clip(path, update, weight):
            path = path_name(path)
            exponent = next((e for p, e in exponents.items() if re.search(p, path)), None)
            if update is None or exponent is None:
                return update
            moved = weight + update.astype(weight.dtype)
            maxima = _at_or_above(path, logits)
            sizes = zip(maxima.shape[::-1], weight.shape[::-1], strict=False)
            if maxima.ndim > weight.ndim or any(a not in (1, b) for a, b in sizes):
                raise ValueError(
                    f"qk_clip: max_logits of shape {maxima.shape} for {path!r} of {weight.shape}; "
                    f"give one for each head, and 1 for every axis that is not that of heads"
                )
            clipped = clip_qk(moved, maxima, exponent=exponent, threshold=threshold)
            return (clipped - weight).astype(update.dtype)

        clipped = jax.tree_util.tree_map_with_path(clip, updates, params, is_leaf=is_none)
        return clipped, state

    clip = optax.GradientTransformationExtraArgs(init_fn, update_fn)
    return stands("displacement", "qk_clip", clip)


def _at_or_above(path: str, logits: Mapping[str, Array]) -> Array:
    parts = path.split("/")
    for length in range(len(parts), -1, -1):
        if (found := logits.get("/".join(parts[:length]))) is not None:
            return found
    raise ValueError(
        f"qk_clip: max_logits has nothing for {path!r}; it has {', '.join(logits) or 'nothing'}"
    )
