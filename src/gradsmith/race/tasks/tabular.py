"""A table like those of forest cover: ten measures, two categories, seven classes of unequal size.

The table is made, from a fixed seed: measures that depend on each other, some of them with long
tails; categories that depend on the measures; classes that are decided by many small trees, as no
smooth function would. One in ten of the classes is replaced by chance.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, UInt8

from .decoder import zero_linear
from .functional import cross_entropy, functional
from .task import Task

ROWS, HELD_OUT = 24_000, 2_000  # held out for selection, and as many for the report
MEASURES, AREAS, SOILS, CLASSES = 10, 4, 40, 7
TREES, DEPTH = 30, 4
OFFSETS = np.linspace(2.0, -2.0, CLASSES)  # make the first classes frequent and the last rare


class Table(NamedTuple):
    """Rows of the table.

    Args:
        measures: With mean 0 and deviation 1 over the table.
        area: One of 4.
        soil: One of 40.
        label: The class, one of 7.
    """

    measures: Float[Array, "n 10"]
    area: UInt8[Array, " n"]
    soil: UInt8[Array, " n"]
    label: UInt8[Array, " n"]


def tabular(
    width: int = 128, depth: int = 2, batch: int = 128, steps: int = 1000, target: float = 1.0
) -> Task:
    """Tell the class of the rows of a table with a perceptron.

    Trains on 20,000 rows, selects on 2,000 others, reports on 2,000 more. Before the first step
    the loss is log 7 = 1.95, because the head starts at zero.

    Args:
        width: Of the hidden layers.
        depth: Hidden layers.
        batch: Rows in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats a row.
    """
    whole = table()
    end = ROWS - 2 * HELD_OUT
    init, logits = functional(lambda rngs: Perceptron(width, depth, rngs))

    def loss(params: PyTree, rows: Table) -> Float[Array, ""]:
        return cross_entropy(logits(params, rows), rows.label)

    def draw(key: PRNGKeyArray) -> Table:
        chosen = jax.random.randint(key, (batch,), 0, end)
        return Table(*(column[:end][chosen] for column in whole))

    return Task(
        name="tabular",
        init=init,
        loss=loss,
        batch=draw,
        selection=Table(*(column[end : end + HELD_OUT] for column in whole)),
        report=Table(*(column[end + HELD_OUT :] for column in whole)),
        target=target,
        steps=steps,
        examples_per_step=batch,
        unit="rows",
        bound=4 * math.log(CLASSES),  # four times as bad as not knowing anything
        origin={"width": width, "depth": depth, "batch": batch},
    )


class Perceptron(nnx.Module):
    """Hidden layers with ReLUs over the measures and the one-hot categories, and a head."""

    def __init__(self, width: int, depth: int, rngs: nnx.Rngs):
        sizes = (MEASURES + AREAS + SOILS, *[width] * depth)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.head = zero_linear(width, CLASSES, rngs)

    def __call__(self, rows: Table) -> Float[Array, "b 7"]:
        """A logit for each class."""
        categories = jax.nn.one_hot(rows.area, AREAS), jax.nn.one_hot(rows.soil, SOILS)
        x = jnp.concatenate([rows.measures, *categories], axis=-1)
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.head(x)


@functools.cache
def table() -> Table:
    """All rows. `RandomState` promises the same numbers in every version of NumPy."""
    random = np.random.RandomState(0)
    hidden = random.standard_normal((ROWS, 4))
    measures = hidden @ random.standard_normal((4, MEASURES))
    measures += 0.5 * random.standard_normal((ROWS, MEASURES))
    measures[:, -3:] = np.exp(0.5 * measures[:, -3:])
    measures = (measures - measures.mean(axis=0)) / measures.std(axis=0)
    area = _nearest(hidden, random.standard_normal((AREAS, 4)))
    soil = _nearest(hidden, random.standard_normal((SOILS, 4)))
    inputs = np.concatenate([measures, np.eye(AREAS)[area], np.eye(SOILS)[soil]], axis=1)
    scores = sum(_tree(inputs, random) for _ in range(TREES)) + OFFSETS
    label = np.argmax(scores, axis=1)
    by_chance = random.uniform(size=ROWS) < 0.1
    label[by_chance] = random.randint(0, CLASSES, by_chance.sum())
    small = lambda column: jnp.asarray(column, jnp.uint8)
    return Table(jnp.asarray(measures, jnp.float32), small(area), small(soil), small(label))


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.argmin(((points[:, None] - centres[None]) ** 2).sum(axis=2), axis=1)


def _tree(inputs: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """What one tree adds to the score of each class: a question a level, a leaf for all answers."""
    columns = random.randint(0, MEASURES + AREAS, DEPTH)
    limits = 0.7 * random.standard_normal(DEPTH)
    leaf = (inputs[:, columns] > limits) @ (1 << np.arange(DEPTH))
    return 0.5 * random.standard_normal((1 << DEPTH, CLASSES))[leaf]
