"""Faults in the loops of other libraries."""

import jax
import optax

from .base import mutant


@mutant("nnx_optimizer", "Flax hands over an nnx.State")
def flax_refused():
    def update(updates, params):
        assert "flax" not in type(updates).__module__
        return jax.tree.map(lambda u: u * 1.0, updates)

    return optax.stateless(update)
