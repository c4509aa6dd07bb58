"""The next character of Shakespeare: a small decoder on 38 plays.

The architecture is that of the optimization track of modded-nanogpt
(https://github.com/KellerJordan/modded-nanogpt, `records/track_3_optimization`), scaled down:
half-truncated rotary embedding, normalised queries and keys, squared ReLU, RMSNorm with gains,
biases, zero-initialised projections, an untied head, logits soft-capped at 15.
"""

import functools
import lzma
import math
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Integer, PyTree, UInt8

from .task import Task

LOGIT_CAP = 15.0
ROPE_BASE = 1024.0
HELD_OUT = 0.1  # the last plays of the text: half to select on, half to report on


def shakespeare(
    depth: int = 4,
    width: int = 64,
    heads: int = 2,
    context: int = 64,
    batch: int = 16,
    steps: int = 300,
    target: float = 2.2,
    validation_windows: int = 128,
) -> Task:
    """Predict the next character of Shakespeare's plays with a small decoder.

    Trains on the first 90 % of the text (4.5 million characters). Selects on windows at equal
    distances over the next 5 %, and reports on such windows over the last 5 %. Before the first
    step the loss is log 80 = 4.38, because the head starts at zero.

    Args:
        depth: Blocks of attention and multilayer perceptron.
        width: Size of the residual stream; the perceptrons are four times as wide.
        heads: Attention heads; their size `width / heads` must be a multiple of 4.
        context: Characters in a window.
        batch: Windows in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats a character.
        validation_windows: Windows in the batch for selection, and in that for the report.

    Raises:
        ValueError: `width / heads` is no multiple of 4.
    """
    if width % (4 * heads):
        raise ValueError(
            f"shakespeare needs heads whose size is a multiple of 4; width {width} and {heads} "
            f"heads make {width / heads:g}"
        )
    text, alphabet = _text()
    end = round(len(text) * (1 - HELD_OUT))
    train = jnp.asarray(text[:end])
    middle = (end + len(text)) // 2

    def windows(first: int, last: int) -> UInt8[Array, "windows length"]:
        starts = np.linspace(first, last - context - 1, validation_windows).astype(int)
        return jnp.asarray(text[starts[:, None] + np.arange(context + 1)])

    def build(rngs: nnx.Rngs) -> Decoder:
        return Decoder(len(alphabet), depth, width, heads, rngs)

    structure = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key) -> PyTree:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def loss(params, windows: UInt8[Array, "batch length"]) -> Float[Array, ""]:
        logits = nnx.merge(structure, nnx.State(params))(windows[:, :-1])
        return _cross_entropy(logits, windows[:, 1:])

    def draw(key) -> UInt8[Array, "batch length"]:
        first = jax.random.randint(key, (batch,), 0, end - context)
        return jax.vmap(lambda i: jax.lax.dynamic_slice_in_dim(train, i, context + 1))(first)

    return Task(
        name="shakespeare",
        init=init,
        loss=loss,
        batch=draw,
        selection=windows(end, middle),
        report=windows(middle, len(text)),
        target=target,
        steps=steps,
        examples_per_step=batch * context,
        unit="characters",
        bound=2 * math.log(len(alphabet)),  # twice as bad as not knowing anything
        origin={
            "depth": depth,
            "width": width,
            "heads": heads,
            "context": context,
            "batch": batch,
            "validation_windows": validation_windows,
        },
    )


@functools.cache
def _text() -> tuple[np.ndarray, bytes]:
    """The plays as indices into their alphabet, and the alphabet."""
    packed = resources.files("gradsmith.race").joinpath("data", "shakespeare.txt.xz").read_bytes()
    alphabet, indices = np.unique(
        np.frombuffer(lzma.decompress(packed), np.uint8), return_inverse=True
    )
    return indices.astype(np.uint8), alphabet.tobytes()


class Decoder(nnx.Module):
    """A decoder-only transformer from characters to the logits of the next ones."""

    def __init__(self, characters: int, depth: int, width: int, heads: int, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(characters, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rngs) for _ in range(depth)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = _zero_linear(width, characters, rngs)

    def __call__(self, text: Integer[Array, "b t"]) -> Float[Array, "b t characters"]:
        """Logits of the character after each."""
        x = self.tokens(text)
        for block in self.blocks:
            x = block(x)
        return LOGIT_CAP * jnp.tanh(self.head(self.norm(x)) / LOGIT_CAP)


class Block(nnx.Module):
    """Attention and a perceptron, each normalised before and added after."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.attention_norm = nnx.RMSNorm(width, rngs=rngs)
        self.attention = Attention(width, heads, rngs)
        self.mlp_norm = nnx.RMSNorm(width, rngs=rngs)
        self.mlp = Mlp(width, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Add both to the residual stream."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Attention(nnx.Module):
    """Causal attention whose queries and keys have unit root mean square."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.heads = heads
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.out = _zero_linear(width, width, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Mix each position with those before it."""
        b, t, d = x.shape
        query, key, value = (
            layer(x).reshape(b, t, self.heads, -1) for layer in (self.query, self.key, self.value)
        )
        query, key = rotate(_unit_rms(query)), rotate(_unit_rms(key))
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.reshape(b, t, d))


class Mlp(nnx.Module):
    """Two layers with a squared ReLU between them."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = _zero_linear(4 * width, width, rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Apply to each position by itself."""
        return self.down(jax.nn.relu(self.up(x)) ** 2)


def rotate(x: Float[Array, "b t heads size"]) -> Float[Array, "b t heads size"]:
    """Half-truncated rotary embedding: half of the planes turn with the position, half stay."""
    t, size = x.shape[1], x.shape[-1]
    turning = ROPE_BASE ** -jnp.linspace(0.0, 1.0, size // 4)
    frequencies = jnp.concatenate([turning, jnp.zeros(size // 4)])
    angle = jnp.arange(t, dtype=jnp.float32)[:, None] * frequencies[None, :]
    cos, sin = jnp.cos(angle)[None, :, None, :], jnp.sin(angle)[None, :, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)


def _unit_rms(x: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def _zero_linear(fan_in: int, fan_out: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(fan_in, fan_out, kernel_init=nnx.initializers.zeros, rngs=rngs)


def _cross_entropy(
    logits: Float[Array, "b t characters"], labels: Integer[Array, "b t"]
) -> Float[Array, ""]:
    log_probabilities = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probabilities, labels[..., None].astype(jnp.int32), axis=-1)
    return -jnp.mean(chosen)
