"""The next character by a mixture of experts, whose matrices stand in stacks `(experts, in, out)`.

Each position is worked on by the two experts that a router gives the highest scores
(https://arxiv.org/abs/1701.06538), weighed by the softmax of both. At this size all experts are
computed everywhere, and most results are multiplied by zero: one product of stacks, and no
position is dropped. No loss balances the experts.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .decoder import Attention, Block, Decoder, refuse_heads
from .task import Task
from .text import next_character

CHOSEN = 2  # of the experts, at each position


def experts(
    depth: int = 1,
    width: int = 64,
    heads: int = 2,
    count: int = 4,
    context: int = 64,
    batch: int = 16,
    steps: int = 200,
    target: float = 2.3,
    validation_windows: int = 128,
) -> Task:
    """Predict the next character of Shakespeare's plays with a small mixture of experts.

    Data and splits are those of `shakespeare`, and so are attention, norms and head.

    Args:
        depth: Blocks.
        width: Size of the residual stream; each expert is twice as wide.
        heads: Attention heads; their size `width / heads` must be a multiple of 4.
        count: Experts in each block, at least two.
        context: Characters in a window.
        batch: Windows in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats a character.
        validation_windows: Windows in the batch for selection, and in that for the report.

    Raises:
        ValueError: `width / heads` is no multiple of 4, or there are too few experts.
    """
    refuse_heads(width, heads)
    if count < CHOSEN:
        raise ValueError(f"experts needs count >= {CHOSEN}, got {count}")
    sizes = {
        "depth": depth,
        "width": width,
        "heads": heads,
        "count": count,
        "context": context,
        "batch": batch,
        "validation_windows": validation_windows,
    }

    def block(rngs: nnx.Rngs) -> Block:
        return Block(
            width,
            lambda r: Attention(width, heads, r),
            lambda r: Experts(width, count, r),
            rngs,
        )

    def build(characters: int, rngs: nnx.Rngs) -> Decoder:
        return Decoder(characters, depth, width, block, rngs)

    return next_character("experts", build, sizes, steps, target, stacked=("experts/",))


class Experts(nnx.Module):
    """Perceptrons side by side, of which two work at each position."""

    def __init__(self, width: int, count: int, rngs: nnx.Rngs):
        self.router = nnx.Linear(width, count, use_bias=False, rngs=rngs)
        self.experts = Perceptrons(width, count, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Weigh what the experts say."""
        return jnp.einsum("bte,bted->btd", self.shares(x), self.experts(x))

    def shares(self, x: Float[Array, "b t d"]) -> Float[Array, "b t experts"]:
        """How much each expert counts: zero for all but two."""
        scores = self.router(x)
        lowest = jax.lax.top_k(scores, CHOSEN)[0][..., -1:]
        return jax.nn.softmax(jnp.where(scores >= lowest, scores, -jnp.inf))


class Perceptrons(nnx.Module):
    """Perceptrons with a squared ReLU, whose weights are stacks of matrices."""

    def __init__(self, width: int, count: int, rngs: nnx.Rngs):
        draw = nnx.initializers.lecun_normal(batch_axis=0)
        self.up = nnx.Param(draw(rngs.params(), (count, width, 2 * width)))
        self.down = nnx.Param(jnp.zeros((count, 2 * width, width)))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t experts d"]:
        """What each of them says at each position."""
        hidden = jax.nn.relu(jnp.einsum("btd,edh->bteh", x, self.up[...])) ** 2
        return jnp.einsum("bteh,ehd->bted", hidden, self.down[...])
