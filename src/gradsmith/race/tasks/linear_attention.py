"""The next character by gated linear attention: a state that decays and is written to.

With Mamba-2 (https://arxiv.org/abs/2405.21060) this is a state-space model: for each head the
state, a matrix, is `S_t = a_t S_(t-1) + k_t v_t^T`, and the output `S_t^T q_t`; the decay `a_t`
depends on the input. Here all positions are computed at once, as attention with decaying weights.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .decoder import Block, Decoder, Mlp, unit_rms, zero_linear
from .task import Task
from .text import next_character

SLOWEST, FASTEST = 5.0, 1.0  # of the heads at first: they keep sigmoid of it from step to step


def linear_attention(
    depth: int = 2,
    width: int = 64,
    heads: int = 4,
    context: int = 64,
    batch: int = 16,
    steps: int = 200,
    target: float = 2.3,
    validation_windows: int = 128,
) -> Task:
    """Predict the next character of Shakespeare's plays with gated linear attention.

    Data and splits are those of `shakespeare`, and so are the perceptrons, norms and head.

    Args:
        depth: Blocks.
        width: Size of the residual stream.
        heads: Whose states are matrices of `width / heads` on both sides.
        context: Characters in a window.
        batch: Windows in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats a character.
        validation_windows: Windows in the batch for selection, and in that for the report.

    Raises:
        ValueError: `heads` do not divide `width`.
    """
    if width % heads:
        raise ValueError(f"linear_attention needs heads that divide width {width}, got {heads}")
    sizes = {
        "depth": depth,
        "width": width,
        "heads": heads,
        "context": context,
        "batch": batch,
        "validation_windows": validation_windows,
    }

    def block(rngs: nnx.Rngs) -> Block:
        return Block(width, lambda r: GatedMemory(width, heads, r), lambda r: Mlp(width, r), rngs)

    def build(characters: int, rngs: nnx.Rngs) -> Decoder:
        return Decoder(characters, depth, width, block, rngs)

    return next_character("linear_attention", build, sizes, steps, target)


class GatedMemory(nnx.Module):
    """Linear attention with a decay for each head and position."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.heads = heads
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.decay = nnx.Linear(width, heads, bias_init=_spread, rngs=rngs)
        self.out = zero_linear(width, width, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Read from what was written before, the less the longer ago."""
        b, t, d = x.shape
        query, key, value = (
            layer(x).reshape(b, t, self.heads, -1) for layer in (self.query, self.key, self.value)
        )
        read = decaying_sum(unit_rms(query), unit_rms(key), value, self.log_decay(x))
        return self.out(unit_rms(read).reshape(b, t, d))

    def log_decay(self, x: Float[Array, "b t d"]) -> Float[Array, "b t heads"]:
        """The logarithm of what each head keeps of its state at each position."""
        return jax.nn.log_sigmoid(self.decay(x))


def decaying_sum(
    query: Float[Array, "b t heads k"],
    key: Float[Array, "b t heads k"],
    value: Float[Array, "b t heads v"],
    log_decay: Float[Array, "b t heads"],
) -> Float[Array, "b t heads v"]:
    """What the queries read of the state; in exact arithmetic that of the recurrence above."""
    t, size = query.shape[1], query.shape[-1]
    kept = jnp.cumsum(log_decay, axis=1).transpose(0, 2, 1)  # from the start to each position
    between = kept[:, :, :, None] - kept[:, :, None, :]  # from the second to the first
    past = jnp.tril(jnp.ones((1, 1, t, t), bool))
    weights = jnp.exp(jnp.where(past, between, -jnp.inf))
    scores = jnp.einsum("bqhk,bshk->bhqs", query, key) / size
    return jnp.einsum("bhqs,bshv->bqhv", scores * weights, value)


def _spread(key: Array, shape: tuple[int, ...], dtype: Any) -> Float[Array, " heads"]:
    return jnp.linspace(FASTEST, SLOWEST, shape[0], dtype=dtype)
