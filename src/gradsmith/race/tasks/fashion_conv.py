"""The kind of a garment by a convolutional net: three convolutions, a mean over places, a head."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .decoder import zero_linear
from .fashion import KINDS, kind_of_garment
from .task import Task


def fashion_conv(width: int = 16, batch: int = 64, steps: int = 300, target: float = 0.53) -> Task:
    """Tell ten kinds of garments on 14 x 14 grey values with a small convolutional net.

    Trains on 9,000 images of Fashion-MNIST, selects on 1,000 others, reports on 2,000 test images.
    Before the first step the loss is log 10 = 2.30, because the head starts at zero.

    Args:
        width: Channels of the first convolution; the others have two and four times as many.
        batch: Images in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats an image.
    """
    sizes = {"width": width, "batch": batch}
    return kind_of_garment("fashion_conv", lambda rngs: ConvNet(width, rngs), sizes, steps, target)


class ConvNet(nnx.Module):
    """Convolutions of 3 x 3; after each of the first two, half as many places on a side."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        channels = (1, width, 2 * width, 4 * width)
        self.convolutions = nnx.List(
            [nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in itertools.pairwise(channels)]
        )
        self.head = zero_linear(4 * width, KINDS, rngs)

    def __call__(self, images: Float[Array, "b 14 14"]) -> Float[Array, "b 10"]:
        """A logit for each kind."""
        first, second, third = self.convolutions
        x = nnx.max_pool(jax.nn.relu(first(images[..., None])), (2, 2), (2, 2))
        x = nnx.max_pool(jax.nn.relu(second(x)), (2, 2), (2, 2))
        return self.head(jnp.mean(jax.nn.relu(third(x)), axis=(1, 2)))
