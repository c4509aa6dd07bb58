"""A deep autoencoder of garments: ill-conditioned, the classic test of second-order optimizers.

From Hinton and Salakhutdinov (Science 2006) by way of Martens (ICML 2010): perceptrons that narrow
down to a code of a few numbers and widen again. The grey values are strongly correlated, the
sigmoids between saturate, and what the code can hold is learned late.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from .fashion import SIDE, Garments, drawing, garments, grey
from .functional import functional
from .task import Task


def autoencoder(
    width: int = 128, code: int = 8, batch: int = 128, steps: int = 1500, target: float = 0.019
) -> Task:
    """Reproduce 14 x 14 grey values through a code of a few numbers.

    Trains on 9,000 images of Fashion-MNIST, selects on 1,000 others, reports on 2,000 test images.
    The loss is the mean square of the error in a grey value from 0 to 1.

    Args:
        width: Of the widest hidden layer; the next two have a half and a quarter of it.
        code: Numbers in the middle.
        batch: Images in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved.
    """
    train, selection, report = garments()
    down = (SIDE * SIDE, width, width // 2, width // 4, code)
    init, reproduce = functional(lambda rngs: Sigmoids((*down, *down[-2::-1]), rngs))

    def loss(params: PyTree, batch: Garments) -> Float[Array, ""]:
        pixels = grey(batch.images).reshape(-1, SIDE * SIDE)
        return jnp.mean((reproduce(params, pixels) - pixels) ** 2)

    return Task(
        name="autoencoder",
        init=init,
        loss=loss,
        batch=drawing(train, batch),
        selection=selection,
        report=report,
        target=target,
        steps=steps,
        examples_per_step=batch,
        unit="images",
        bound=1.0,  # of grey values from 0 to 1
        origin={"width": width, "code": code, "batch": batch},
    )


class Sigmoids(nnx.Module):
    """Layers with a sigmoid after each but the code in the middle and the last."""

    def __init__(self, sizes: tuple[int, ...], rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])

    def __call__(self, x: Float[Array, "b pixels"]) -> Float[Array, "b pixels"]:
        """Encode and decode."""
        linear = (len(self.layers) // 2, len(self.layers))
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x) if number in linear else jax.nn.sigmoid(layer(x))
        return x
