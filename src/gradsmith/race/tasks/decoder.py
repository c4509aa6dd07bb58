"""The decoder of modded-nanogpt's optimization track, in parts that other models share.

Its architecture (https://github.com/KellerJordan/modded-nanogpt, `records/track_3_optimization`):
half-truncated rotary embedding, normalised queries and keys, squared ReLU, RMSNorm with gains,
biases, zero-initialised projections, an untied head, logits soft-capped at 15.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Integer

LOGIT_CAP = 15.0
ROPE_BASE = 1024.0

Part = Callable[[nnx.Rngs], Callable[[Float[Array, "b t d"]], Float[Array, "b t d"]]]


class Decoder(nnx.Module):
    """A decoder-only model from characters to the logits of the next ones.

    Args:
        characters: How many there are.
        depth: Blocks.
        width: Of the residual stream.
        block: Makes a block.
        rngs: Where everything random comes from.
    """

    def __init__(self, characters: int, depth: int, width: int, block: Part, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(characters, width, rngs=rngs)
        self.blocks = nnx.List([block(rngs) for _ in range(depth)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = zero_linear(width, characters, rngs)

    def __call__(self, text: Integer[Array, "b t"]) -> Float[Array, "b t characters"]:
        """Logits of the character after each."""
        x = self.tokens(text)
        for block in self.blocks:
            x = block(x)
        return LOGIT_CAP * jnp.tanh(self.head(self.norm(x)) / LOGIT_CAP)


class Block(nnx.Module):
    """What mixes positions and a perceptron, each normalised before and added after.

    Args:
        width: Of the residual stream.
        attention: Makes what mixes positions.
        mlp: Makes what works on each position by itself.
        rngs: Where everything random comes from.
    """

    def __init__(self, width: int, attention: Part, mlp: Part, rngs: nnx.Rngs):
        self.attention_norm = nnx.RMSNorm(width, rngs=rngs)
        self.attention = attention(rngs)
        self.mlp_norm = nnx.RMSNorm(width, rngs=rngs)
        self.mlp = mlp(rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Add both to the residual stream."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


def block(width: int, heads: int, rngs: nnx.Rngs) -> Block:
    """The track's own block: causal attention, and a perceptron four times as wide."""
    return Block(width, lambda r: Attention(width, heads, r), lambda r: Mlp(width, r), rngs)


class Attention(nnx.Module):
    """Attention whose queries and keys have unit root mean square.

    Args:
        width: Of the residual stream.
        heads: Their size `width / heads` must be a multiple of 4.
        rngs: Where everything random comes from.
        ordered: Whether the positions are a text: they are told by rotation, and each sees those
            before it only. Otherwise they are a set.
    """

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs, ordered: bool = True):
        refuse_heads(width, heads)
        self.heads, self.ordered = heads, ordered
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.out = zero_linear(width, width, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Mix each position with those it sees."""
        b, t, d = x.shape
        query, key, value = (
            layer(x).reshape(b, t, self.heads, -1) for layer in (self.query, self.key, self.value)
        )
        query, key = unit_rms(query), unit_rms(key)
        if self.ordered:
            query, key = rotate(query), rotate(key)
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=self.ordered)
        return self.out(mixed.reshape(b, t, d))


class Mlp(nnx.Module):
    """Two layers with a squared ReLU between them."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = zero_linear(4 * width, width, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Apply to each position by itself."""
        return self.down(jax.nn.relu(self.up(x)) ** 2)


def refuse_heads(width: int, heads: int) -> None:
    """Refuse heads that rotation cannot halve twice.

    Raises:
        ValueError: `width / heads` is no multiple of 4.
    """
    if width % (4 * heads):
        raise ValueError(
            f"heads need a size that is a multiple of 4; width {width} and {heads} heads make "
            f"{width / heads:g}"
        )


def rotate(x: Float[Array, "b t heads size"]) -> Float[Array, "b t heads size"]:
    """Half-truncated rotary embedding: half of the planes turn with the position, half stay."""
    t, size = x.shape[1], x.shape[-1]
    turning = ROPE_BASE ** -jnp.linspace(0.0, 1.0, size // 4)
    frequencies = jnp.concatenate([turning, jnp.zeros(size // 4)])
    angle = jnp.arange(t, dtype=jnp.float32)[:, None] * frequencies[None, :]
    cos, sin = jnp.cos(angle)[None, :, None, :], jnp.sin(angle)[None, :, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)


def unit_rms(x: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    """Scale to a root mean square of 1 along the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def zero_linear(fan_in: int, fan_out: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A layer that starts at zero, so that what it ends does nothing at first."""
    return nnx.Linear(fan_in, fan_out, kernel_init=nnx.initializers.zeros, rngs=rngs)
