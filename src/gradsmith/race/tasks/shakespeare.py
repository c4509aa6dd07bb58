"""The next character of Shakespeare: a small decoder on 38 plays, in three sizes."""

import functools

from .decoder import Decoder, block, refuse_heads
from .task import Task
from .text import next_character


def shakespeare(
    depth: int = 4,
    width: int = 64,
    heads: int = 2,
    context: int = 64,
    batch: int = 16,
    steps: int = 300,
    target: float = 2.2,
    validation_windows: int = 128,
    name: str = "shakespeare",
) -> Task:
    """Predict the next character of Shakespeare's plays with a small decoder.

    Trains on the first 90 % of the text (4.5 million characters). Selects on windows at equal
    distances over the next 5 %, and reports on such windows over the last 5 %. Before the first
    step the loss is log 80 = 4.38, because the head starts at zero. By default the decoder has
    0.2 million parameters.

    Args:
        depth: Blocks of attention and multilayer perceptron.
        width: Size of the residual stream; the perceptrons are four times as wide.
        heads: Attention heads; their size `width / heads` must be a multiple of 4.
        context: Characters in a window.
        batch: Windows in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats a character.
        validation_windows: Windows in the batch for selection, and in that for the report.
        name: What reports call the task.

    Raises:
        ValueError: `width / heads` is no multiple of 4.
    """
    refuse_heads(width, heads)
    sizes = {
        "depth": depth,
        "width": width,
        "heads": heads,
        "context": context,
        "batch": batch,
        "validation_windows": validation_windows,
    }

    def build(characters, rngs):
        return Decoder(characters, depth, width, lambda r: block(width, heads, r), rngs)

    return next_character(name, build, sizes, steps, target)


shakespeare_1m = functools.partial(
    shakespeare, name="shakespeare_1m", depth=5, width=128, target=2.1
)
shakespeare_5m = functools.partial(
    shakespeare, name="shakespeare_5m", depth=6, width=256, heads=4, steps=200, target=2.3
)
