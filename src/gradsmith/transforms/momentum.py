"""Momentum, by the name of its convention.

All of them keep `m <- decay m + w g`, with `w = 1` for the heavy ball and `w = 1 - decay` for the
moving average. The direction is `m`, or with Nesterov's look-ahead `decay m + w g`. At a constant
decay the two families differ by the factor `1 - decay`, which does not change an orthogonalized
update. Under a scheduled decay they are different optimizers.
"""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from ..xla.dtypes import wide_dtype
from .arguments import ScalarOrSchedule, check_fixed, check_fractions
from .averages import below_one
from .leaves import advance
from .sides import stands

MomentumKind = Literal[
    "heavy_ball",
    "heavy_ball_nesterov",
    "ema",
    "ema_nesterov",
    "ema_nesterov_debiased",
]


class MomentumState(NamedTuple):
    """The number of updates so far, and the momentum, which mirrors the parameters."""

    step: Int[Array, ""]
    momentum: Any


def momentum(
    decay: ScalarOrSchedule = 0.95,
    kind: MomentumKind = "ema_nesterov",
    dtype: DTypeLike | None = None,
) -> optax.GradientTransformation:
    """Replace the gradient by its momentum, in one of the five published conventions.

    | kind | w | direction | published with |
    |---|---|---|---|
    | `heavy_ball` | 1 | `m` | microsoft/dion |
    | `heavy_ball_nesterov` | 1 | `decay m + g` | Moonlight |
    | `ema` | `1 - decay` | `m` | Scion |
    | `ema_nesterov` | `1 - decay` | `decay m + w g` | Keller Jordan's code, torch |
    | `ema_nesterov_debiased` | `1 - decay` | see below | Optax |

    where `m <- decay m + w g`. In step `t` the last one divides the `m` of its direction by
    `1 - decay^(t+1)` and the `g` by `1 - decay^t`, which weighs the first gradients differently.

    A direction: stands before the learning rate. State: one copy of the parameters.

    Args:
        decay: The part of the momentum that survives a step, in [0, 1); a number, or a schedule of
            the number of steps so far. Nesterov's look-ahead takes that of the same step.
        kind: The convention.
        dtype: What the momentum is kept in; by default the dtype of the parameters, or float32
            where that is narrower. bfloat16 halves the state. But an average of bfloat16 numbers
            loses every change of less than a 256th of it, so it may stop. The arithmetic is
            float32.

    Raises:
        ValueError: No convention has that name, the decay is out of range, or a schedule is given
            to the convention that debiases by a constant decay.
        TypeError: `dtype` is an array, which `optax.inject_hyperparams` made of it.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> grads = jnp.array([1.0])
        >>> for kind in ("heavy_ball", "heavy_ball_nesterov", "ema"):
        ...     tx = gs.momentum(0.75, kind)
        ...     print(kind, tx.update(grads, tx.init(grads))[0])
        heavy_ball [1.]
        heavy_ball_nesterov [1.75]
        ema [0.25]
    """
    if kind not in get_args(MomentumKind):
        known = ", ".join(get_args(MomentumKind))
        raise ValueError(f"no momentum is called {kind!r}; there are {known}")
    check_fractions("momentum", decay=decay)
    check_fixed("momentum", dtype=dtype)
    if callable(decay) and kind.endswith("debiased"):
        raise ValueError(
            f"{kind} divides by powers of one decay and takes no schedule; take 'ema_nesterov'"
        )

    def init_fn(params):
        kept = lambda p: wide_dtype(p.dtype) if dtype is None else dtype
        zeros = lambda p: jnp.zeros_like(p, dtype=kept(p))
        return MomentumState(jnp.zeros((), jnp.int32), jax.tree.map(zeros, params))

    def update_fn(updates, state, params=None):
        del params
        step = jnp.asarray(optax.safe_increment(state.step))
        kept = decay(state.step) if callable(decay) else decay

        def average(m, g, debias=False):
            beta = below_one(kept, m.dtype)
            weight = 1 if kind.startswith("heavy_ball") else 1 - beta
            if debias:
                m = m / (1 - beta ** (step + 1).astype(m.dtype))
                g = g / (1 - beta ** step.astype(m.dtype))
            return beta * m + weight * g

        def move(g, old):
            wide = wide_dtype(old.dtype)
            gradient = g.astype(wide)
            m = out = average(old.astype(wide), gradient)
            if "nesterov" in kind:
                out = average(m, gradient, debias=kind.endswith("debiased"))
            return out.astype(g.dtype), m.astype(old.dtype)

        out, moved = advance(move, updates, state.momentum)
        return out, MomentumState(step, moved)

    return stands("direction", "momentum", optax.GradientTransformation(init_fn, update_fn))
