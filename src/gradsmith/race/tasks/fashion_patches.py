"""The kind of a garment by a transformer whose positions are patches of 2 x 2 grey values.

A vision transformer (https://arxiv.org/abs/2010.11929) of the blocks of `decoder.py`: patches are a
set, their places are told by an embedding that is learned, and the mean over them is classified.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .decoder import Attention, Block, Mlp, refuse_heads, zero_linear
from .fashion import KINDS, SIDE, kind_of_garment
from .task import Task

PATCH = 2


def fashion_patches(
    depth: int = 2,
    width: int = 48,
    heads: int = 2,
    batch: int = 32,
    steps: int = 300,
    target: float = 0.92,
) -> Task:
    """Tell ten kinds of garments on 14 x 14 grey values with a small transformer of patches.

    Trains on 9,000 images of Fashion-MNIST, selects on 1,000 others, reports on 2,000 test images.
    Before the first step the loss is log 10 = 2.30, because the head starts at zero.

    Args:
        depth: Blocks.
        width: Size of the residual stream; the perceptrons are four times as wide.
        heads: Attention heads; their size `width / heads` must be a multiple of 4.
        batch: Images in a batch.
        steps: Steps of one run.
        target: Validation loss that counts as solved, in nats an image.

    Raises:
        ValueError: `width / heads` is no multiple of 4.
    """
    refuse_heads(width, heads)
    sizes = {"depth": depth, "width": width, "heads": heads, "batch": batch}

    def build(rngs: nnx.Rngs) -> PatchTransformer:
        return PatchTransformer(depth, width, heads, rngs)

    return kind_of_garment("fashion_patches", build, sizes, steps, target)


class PatchTransformer(nnx.Module):
    """From grey values to a logit for each kind."""

    def __init__(self, depth: int, width: int, heads: int, rngs: nnx.Rngs):
        def block() -> Block:
            attention = lambda r: Attention(width, heads, r, ordered=False)
            return Block(width, attention, lambda r: Mlp(width, r), rngs)

        places = (SIDE // PATCH) ** 2
        self.patches = nnx.Linear(PATCH * PATCH, width, rngs=rngs)
        self.places = nnx.Embed(places, width, rngs=rngs)
        self.blocks = nnx.List([block() for _ in range(depth)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = zero_linear(width, KINDS, rngs)

    def __call__(self, images: Float[Array, "b 14 14"]) -> Float[Array, "b 10"]:
        """A logit for each kind."""
        x = self.patches(cut(images)) + self.places.embedding[...][None]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(jnp.mean(x, axis=1)))


def cut(images: Float[Array, "b 14 14"]) -> Float[Array, "b 49 4"]:
    """The patches of images, line by line."""
    side = SIDE // PATCH
    x = images.reshape(-1, side, PATCH, side, PATCH).transpose(0, 1, 3, 2, 4)
    return x.reshape(-1, side * side, PATCH * PATCH)
