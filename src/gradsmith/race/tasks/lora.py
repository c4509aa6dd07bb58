"""Low-rank adapters on a frozen decoder: it knows Shakespeare, and learns him in capitals.

The decoder of `shakespeare`, trained beforehand by `benchmarks/frozen_decoder.py`, keeps its
weights. Beside each matrix of its blocks stand two thin ones whose product is added
(https://arxiv.org/abs/2106.09685). The text is the plays in capital letters, which the decoder has
seen in the names of speakers only.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, UInt8

from .decoder import Decoder, block
from .functional import functional
from .packed import unpacked
from .task import Task
from .text import on_characters, plays

DEPTH, WIDTH, HEADS = 4, 64, 2  # of the frozen decoder
SCALE = 2.0  # of the products

Adapters = dict[str, dict[str, Array]]  # by the path of the matrix, "lora_a" and "lora_b"


def lora(
    rank: int = 4,
    context: int = 64,
    batch: int = 16,
    steps: int = 150,
    target: float = 2.1,
    validation_windows: int = 128,
) -> Task:
    """Adapt a frozen decoder of Shakespeare to his plays in capital letters.

    The parameters are the adapters alone; before the first step they add nothing, because one of
    the two matrices starts at zero. Splits of the text are those of `shakespeare`, whose training
    part the decoder was trained on.

    Args:
        rank: Of the adapters.
        context: Characters in a window.
        batch: Windows in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats a character.
        validation_windows: Windows in the batch for selection, and in that for the report.
    """
    text, alphabet = plays()
    _, logits = decoder(len(alphabet))
    weights = frozen()

    def init(key: PRNGKeyArray) -> Adapters:
        matrices = {
            path: leaf.shape for path, leaf in _by_path(weights["blocks"]) if leaf.ndim == 2
        }
        keys = jax.random.split(key, len(matrices))
        return {
            path: {
                "lora_a": jax.random.normal(k, (fan_in, rank)) / math.sqrt(fan_in),
                "lora_b": jnp.zeros((rank, fan_out)),
            }
            for k, (path, (fan_in, fan_out)) in zip(keys, matrices.items(), strict=True)
        }

    def adapted_logits(
        adapters: Adapters, text: UInt8[Array, "b t"]
    ) -> Float[Array, "b t characters"]:
        return logits({**weights, "blocks": adapted(weights["blocks"], adapters)}, text)

    sizes = {
        "rank": rank,
        "context": context,
        "batch": batch,
        "validation_windows": validation_windows,
    }
    capitals = in_capitals(text, alphabet)
    bound = 4 * math.log(len(alphabet))  # four times as bad as not knowing anything
    return on_characters("lora", init, adapted_logits, capitals, sizes, steps, target, bound)


def adapted(blocks: PyTree, adapters: Adapters) -> PyTree:
    """The weights of the blocks with what the adapters add."""

    def add(path: tuple, weight: Array) -> Array:
        adapter = adapters.get(_name(path))
        return weight if adapter is None else weight + SCALE * adapter["lora_a"] @ adapter["lora_b"]

    return jax.tree.map_with_path(add, blocks)


def decoder(characters: int) -> tuple:
    """`init` and `apply` of the decoder that is frozen; see `functional`."""

    def build(rngs: nnx.Rngs) -> Decoder:
        return Decoder(characters, DEPTH, WIDTH, lambda r: block(WIDTH, HEADS, r), rngs)

    return functional(build)


def frozen() -> PyTree:
    """Its weights, stored in float16 in the order of JAX's flattened trees."""
    init, _ = decoder(len(plays()[1]))
    shapes = jax.eval_shape(init, jax.random.key(0))
    _, unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
    return unravel(jnp.asarray(_stored(), jnp.float32))


@functools.cache
def _stored() -> Float[np.ndarray, " n"]:
    return np.frombuffer(unpacked("decoder.float16"), "<f2").astype(np.float32)


def in_capitals(text: UInt8[np.ndarray, " n"], alphabet: bytes) -> UInt8[np.ndarray, " n"]:
    """The text, as indices into its alphabet, with capitals for small letters."""
    capital = [alphabet.index(letter) for letter in alphabet.upper()]
    return np.array(capital, np.uint8)[text]


def _by_path(tree: PyTree) -> list[tuple[str, Array]]:
    return [(_name(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
