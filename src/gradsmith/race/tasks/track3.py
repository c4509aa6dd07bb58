"""The optimization track of modded-nanogpt: 12 layers of width 768 on FineWeb, down to 3.28.

Model, batch, data and order of data are those of the benchmark's baseline
(https://github.com/KellerJordan/modded-nanogpt, `records/track_3_optimization`), written anew.
Activations and the embedding are bfloat16, all other parameters float32. Its length is that of the
baseline; schedule, seeds and what is tuned belong to the race. The loss is the mean over tokens,
where the benchmark's gradients are of the sum: an absolute eps acts the stronger here.
"""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray, PyTree, UInt16

from .decoder import LOGIT_CAP, rotate, unit_rms
from .functional import cross_entropy
from .shards import count, in_order, shards, tokens
from .stream import Stream
from .task import Task

HEAD_SIZE, SCORE_SCALE = 128, 0.12


def track3(
    data: str = "data/fineweb10B",
    depth: int = 12,
    width: int = 768,
    vocabulary: int = 50304,
    context: int = 1024,
    batch: int = 512,
    at_once: int = 16,
    steps: int = 3250,
    target: float = 3.28,
    validation_tokens: int = 20 * 524288,
) -> Task:
    """Predict the next token of FineWeb with the benchmark's decoder.

    Trains on the shards `fineweb_train_*.bin` in order, the same for every seed, as the benchmark
    does; the seed decides the first parameters alone. Reports on the first tokens of
    `fineweb_val_*.bin`, the benchmark's own, and selects on as many after them.

    The model has 162 million parameters; with an embedding that is the head too, as GPT-2 has,
    it would be 124. A step is half a million tokens: give it an accelerator.

    Args:
        data: The folder of the shards.
        depth: Blocks.
        width: Of the residual stream, a multiple of 128, which is the size of a head.
        vocabulary: Tokens that there may be.
        context: Tokens in a sequence.
        batch: Sequences in a step.
        at_once: Of them are computed at once, and their activations again in the backward pass.
            It decides the memory and changes nothing but rounding.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats a token.
        validation_tokens: For selection, and as many for the report.

    Raises:
        ValueError: There are no shards, they are too short, or sizes do not divide each other.
    """
    _refuse_remainders(width, HEAD_SIZE, "a width that is a multiple of")
    _refuse_remainders(batch, at_once, "a batch that is a multiple of at_once")
    _refuse_remainders(validation_tokens, context * at_once, "validation_tokens in multiples of")
    train, validation = (shards(Path(data), split) for split in ("train", "val"))
    available = count(train, batch * context)
    if available < steps:
        raise ValueError(
            f"the {len(train)} training shards in {data} are enough for {available} steps, not for "
            f"{steps}: download more, or give --task-arg steps={available}"
        )
    held_out = tokens(validation[0])
    if len(held_out) < 2 * validation_tokens + 1:
        raise ValueError(
            f"{validation[0]} has {len(held_out):,} tokens, and selection and report take "
            f"{2 * validation_tokens + 1:,}: give fewer validation_tokens"
        )
    report, selection = (
        np.asarray(held_out[first : first + validation_tokens + 1])
        for first in (0, validation_tokens)
    )

    def loss(params: PyTree, text: UInt16[Array, " n"]) -> Float[Array, ""]:
        parts = (-1, at_once, context)
        of_part = lambda part: cross_entropy(logits(params, part[0]), part[1])
        losses = jax.lax.map(
            jax.checkpoint(of_part), (text[:-1].reshape(parts), text[1:].reshape(parts))
        )
        return jnp.mean(losses)

    return Task(
        name="track3",
        init=functools.partial(initial, depth=depth, width=width, vocabulary=vocabulary),
        loss=loss,
        batch=Stream(lambda seed: in_order(train, batch * context)),
        selection=jnp.asarray(selection),
        report=jnp.asarray(report),
        target=target,
        steps=steps,
        examples_per_step=batch * context,
        unit="tokens",
        bound=2 * math.log(vocabulary),  # twice as bad as not knowing anything
        origin={
            "depth": depth,
            "width": width,
            "vocabulary": vocabulary,
            "context": context,
            "batch": batch,
            "at_once": at_once,
            "validation_tokens": validation_tokens,
            "shards": [path.name for path in train],
        },
    )


def initial(key: PRNGKeyArray, depth: int, width: int, vocabulary: int) -> PyTree:
    """Projections, head and biases at zero, gains at one, the rest normal."""
    token_key, *keys = jax.random.split(key, 1 + depth)

    def linear(key: PRNGKeyArray, fan_in: int, fan_out: int) -> PyTree:
        kernel = math.sqrt(0.33 / fan_in) * jax.random.normal(key, (fan_in, fan_out))
        return {"kernel": kernel, "bias": jnp.zeros(fan_out)}

    def zero(fan_in: int, fan_out: int) -> PyTree:
        return {"kernel": jnp.zeros((fan_in, fan_out)), "bias": jnp.zeros(fan_out)}

    def block(key: PRNGKeyArray) -> PyTree:
        q, k, v, up = jax.random.split(key, 4)
        return {
            "attention_norm": {"scale": jnp.ones(width)},
            "query": linear(q, width, width),
            "key": linear(k, width, width),
            "value": linear(v, width, width),
            "out": zero(width, width),
            "mlp_norm": {"scale": jnp.ones(width)},
            "up": linear(up, width, 4 * width),
            "down": zero(4 * width, width),
        }

    return {
        "tokens": {"embedding": jax.random.normal(token_key, (vocabulary, width), jnp.bfloat16)},
        "tokens_norm": {"scale": jnp.ones(width)},
        "blocks": [block(key) for key in keys],
        "norm": {"scale": jnp.ones(width)},
        "head": zero(width, vocabulary),
    }


def logits(params: PyTree, text: Integer[Array, "b t"]) -> Float[Array, "b t vocabulary"]:
    """Logits of the token after each, in float32."""
    x = _norm(params["tokens_norm"], params["tokens"]["embedding"][text.astype(jnp.int32)])
    for block in params["blocks"]:
        x = x + _attention(block, _norm(block["attention_norm"], x))
        hidden = jax.nn.relu(_linear(block["up"], _norm(block["mlp_norm"], x))) ** 2
        x = x + _linear(block["down"], hidden)
    out = _linear(params["head"], _norm(params["norm"], x)).astype(jnp.float32)
    return LOGIT_CAP * out * jax.lax.rsqrt(out**2 + LOGIT_CAP**2)


def _attention(block: PyTree, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
    b, t, d = x.shape
    query, key, value = (
        _linear(block[name], x).reshape(b, t, -1, HEAD_SIZE) for name in ("query", "key", "value")
    )
    query, key = (rotate(unit_rms(y.astype(jnp.float32))).astype(x.dtype) for y in (query, key))
    mixed = jax.nn.dot_product_attention(query, key, value, scale=SCORE_SCALE, is_causal=True)
    return _linear(block["out"], mixed.reshape(b, t, d))


def _linear(layer: PyTree, x: Float[Array, "b t m"]) -> Float[Array, "b t n"]:
    kernel, bias = layer["kernel"].astype(x.dtype), layer["bias"].astype(x.dtype)
    return x @ kernel + bias[None, None, :]


def _norm(layer: PyTree, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
    scale = layer["scale"].astype(x.dtype)[None, None, :]
    return unit_rms(x.astype(jnp.float32)).astype(x.dtype) * scale


def _refuse_remainders(number: int, divisor: int, what: str) -> None:
    if number % divisor:
        raise ValueError(f"track3 needs {what} {divisor}, got {number}")
