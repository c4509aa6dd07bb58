"""Garments of ten kinds in 14 x 14 grey values (Fashion-MNIST), and the task of telling them."""

import functools
import io
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

KINDS = 10
SIDE = 14
SELECTED_ON = 100  # of each kind, the last of the training images


class Garments(NamedTuple):
    """Images and their kinds.

    Args:
        images: Grey values from 0 to 255.
        kinds: From 0 to 9.
    """

    images: UInt8[Array, "n 14 14"]
    kinds: UInt8[Array, " n"]


@functools.cache
def garments() -> tuple[Garments, Garments, Garments]:
    """9,000 to train on, 1,000 to select on, and the 2,000 test images to report on."""
    stored = np.load(io.BytesIO(unpacked("fashion_mnist_14x14.npz")))
    images, kinds = stored["train_images"], stored["train_labels"]
    own = [np.flatnonzero(kinds == kind) for kind in range(KINDS)]
    learned = np.sort(np.concatenate([places[:-SELECTED_ON] for places in own]))
    selected = np.sort(np.concatenate([places[-SELECTED_ON:] for places in own]))
    splits = (
        (images[learned], kinds[learned]),
        (images[selected], kinds[selected]),
        (stored["test_images"], stored["test_labels"]),
    )
    train, selection, report = (Garments(*map(jnp.asarray, split)) for split in splits)
    return train, selection, report


def drawing(data: Garments, batch: int) -> Callable[[PRNGKeyArray], Garments]:
    """`key -> batch`: so many of them, each time anew."""

    def draw(key: PRNGKeyArray) -> Garments:
        chosen = jax.random.randint(key, (batch,), 0, len(data.kinds))
        return Garments(data.images[chosen], data.kinds[chosen])

    return draw


def grey(images: UInt8[Array, "b 14 14"]) -> Float[Array, "b 14 14"]:
    """Grey values from 0 to 1."""
    return images.astype(jnp.float32) / 255


def kind_of_garment(
    name: str,
    build: Callable[[nnx.Rngs], nnx.Module],
    sizes: Mapping[str, Any],
    steps: int,
    target: float,
) -> Task:
    """The task of telling the kind of a garment with some model.

    Args:
        name: Of the task.
        build: Makes the model, from grey values to a logit for each kind.
        sizes: Of the model and the data, for the records; `batch` is used here.
        steps: Of a run.
        target: Validation loss that counts as solved, in nats.
    """
    train, selection, report = garments()
    init, logits = functional(build)

    def loss(params: PyTree, batch: Garments) -> Float[Array, ""]:
        return cross_entropy(logits(params, grey(batch.images)), batch.kinds)

    return Task(
        name=name,
        init=init,
        loss=loss,
        batch=drawing(train, sizes["batch"]),
        selection=selection,
        report=report,
        target=target,
        steps=steps,
        examples_per_step=sizes["batch"],
        unit="images",
        bound=4 * math.log(KINDS),  # four times as bad as not knowing anything
        origin=sizes,
    )
