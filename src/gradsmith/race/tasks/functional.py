"""A Flax model as two functions of plain dictionaries, and the loss of choosing among classes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Integer, PRNGKeyArray, PyTree


def functional(
    build: Callable[[nnx.Rngs], nnx.Module],
) -> tuple[Callable[[PRNGKeyArray], PyTree], Callable[..., Any]]:
    """Take a model apart: `init(key) -> params`, and `apply(params, *inputs)`.

    Args:
        build: Makes the model. All that it draws comes from its `rngs`.
    """
    structure = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: PRNGKeyArray) -> PyTree:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def apply(params: PyTree, *inputs: Any) -> Any:
        return nnx.merge(structure, nnx.State(params))(*inputs)

    return init, apply


def cross_entropy(
    logits: Float[Array, "*places classes"], labels: Integer[Array, "*places"]
) -> Float[Array, ""]:
    """The mean surprise at the right classes, in nats; log of their number for who knows nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> print(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3])).round(3))
        1.386
    """
    log_probabilities = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probabilities, labels[..., None].astype(jnp.int32), axis=-1)
    return -jnp.mean(chosen)
