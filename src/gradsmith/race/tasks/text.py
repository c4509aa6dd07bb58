"""Shakespeare's plays, character by character, and the task of predicting the next one."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, UInt8

from .functional import cross_entropy, functional
from .packed import unpacked
from .task import Task

HELD_OUT = 0.1  # the last plays of the text: half to select on, half to report on


class Windows(NamedTuple):
    """Windows of a text, one character longer than what a model reads at once.

    Args:
        draw: `key -> windows`, anywhere in the first 90 % of the text.
        selection: At equal distances over the next 5 %.
        report: Over the last 5 %.
    """

    draw: Callable[[PRNGKeyArray], UInt8[Array, "batch length"]]
    selection: UInt8[Array, "windows length"]
    report: UInt8[Array, "windows length"]


@functools.cache
def plays() -> tuple[np.ndarray, bytes]:
    """The plays as indices into their alphabet, and the alphabet of 80 characters."""
    text = np.frombuffer(unpacked("shakespeare.txt"), np.uint8)
    alphabet, indices = np.unique(text, return_inverse=True)
    return indices.astype(np.uint8), alphabet.tobytes()


def windows(text: UInt8[np.ndarray, " n"], context: int, batch: int, held_out: int) -> Windows:
    """Windows to train on and two batches of `held_out` windows.

    Args:
        text: What to cut them from.
        context: Characters that a model reads at once.
        batch: Windows in a batch.
        held_out: Windows in the batch for selection, and in that for the report.
    """
    end = round(len(text) * (1 - HELD_OUT))
    middle = (end + len(text)) // 2
    train = jnp.asarray(text[:end])

    def spread(first: int, last: int) -> UInt8[Array, "windows length"]:
        starts = np.linspace(first, last - context - 1, held_out).astype(int)
        return jnp.asarray(text[starts[:, None] + np.arange(context + 1)])

    def draw(key: PRNGKeyArray) -> UInt8[Array, "batch length"]:
        first = jax.random.randint(key, (batch,), 0, end - context)
        return jax.vmap(lambda i: jax.lax.dynamic_slice_in_dim(train, i, context + 1))(first)

    return Windows(draw, spread(end, middle), spread(middle, len(text)))


def surprise(
    logits: Callable[[PyTree, UInt8[Array, "b t"]], Float[Array, "b t characters"]],
) -> Callable[[PyTree, UInt8[Array, "b length"]], Float[Array, ""]]:
    """The loss of a model of the next character: that of every character of a window but the first.

    Args:
        logits: `(params, text) -> logits`.
    """

    def loss(params: PyTree, windows: UInt8[Array, "b length"]) -> Float[Array, ""]:
        return cross_entropy(logits(params, windows[:, :-1]), windows[:, 1:])

    return loss


def next_character(
    name: str,
    build: Callable[[int, nnx.Rngs], nnx.Module],
    sizes: Mapping[str, Any],
    steps: int,
    target: float,
    stacked: tuple[str, ...] = (),
) -> Task:
    """The task of predicting the next character of Shakespeare's plays with some model.

    Args:
        name: Of the task.
        build: Makes the model, from the number of characters.
        sizes: Of the model and the data, for the records; `context`, `batch` and
            `validation_windows` are used here.
        steps: Of a run.
        target: Validation loss that counts as solved, in nats a character.
        stacked: See `Task`.
    """
    text, alphabet = plays()
    init, logits = functional(lambda rngs: build(len(alphabet), rngs))
    bound = 2 * math.log(len(alphabet))  # twice as bad as not knowing anything
    return on_characters(name, init, logits, text, sizes, steps, target, bound, stacked)


def on_characters(
    name: str,
    init: Callable[[PRNGKeyArray], PyTree],
    logits: Callable[[PyTree, UInt8[Array, "b t"]], Float[Array, "b t characters"]],
    text: UInt8[np.ndarray, " n"],
    sizes: Mapping[str, Any],
    steps: int,
    target: float,
    bound: float,
    stacked: tuple[str, ...] = (),
) -> Task:
    """The task of predicting the next character of a text, with a model as two functions.

    Args:
        name: Of the task.
        init: `key -> params`.
        logits: `(params, text) -> logits`.
        text: Indices into its alphabet.
        sizes: As for `next_character`.
        steps: Of a run.
        target: Validation loss that counts as solved, in nats a character.
        bound: See `Task`.
        stacked: See `Task`.
    """
    context, batch = sizes["context"], sizes["batch"]
    data = windows(text, context, batch, sizes["validation_windows"])
    return Task(
        name=name,
        init=init,
        loss=surprise(logits),
        batch=data.draw,
        selection=data.selection,
        report=data.report,
        target=target,
        steps=steps,
        examples_per_step=batch * context,
        unit="characters",
        bound=bound,
        stacked=stacked,
        origin=sizes,
    )
