"""my_optimizer: give every output unit of a hidden matrix an update of length one.

Run its tests:    pytest my_optimizer.py
See what is wrong, and how to mend it:    gradsmith check my_optimizer.py:my_optimizer
See whether it is any better:    gradsmith race adamw muon my_optimizer.py:my_optimizer
"""

import jax.numpy as jnp
import numpy as np
import optax

import gradsmith as gs
from gradsmith import checks


def my_optimizer_step(update):
    """Yours: what happens to one matrix, `(fan_in, fan_out)`, in and out."""
    norms = jnp.linalg.norm(update, axis=0, keepdims=True)
    return update / jnp.where(norms > 0, norms, 1)  # a gradient of zero stays zero


def my_optimizer(learning_rate, decay=0.95):
    """Hidden matrices by my formula, after momentum; everything else by Adam."""
    mine = optax.chain(gs.momentum(decay), gs.per_matrix(my_optimizer_step))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam(b2=0.95))
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


# Tests. The first runs the check kit; add one for each property that your formula promises.


@checks.parametrize(checks.Subject("my_optimizer", my_optimizer))
def test_conforms(subject, check):
    check(subject)


def test_every_output_unit_moves_by_length_one():
    update = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    lengths = np.linalg.norm(np.asarray(my_optimizer_step(update)), axis=0)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)
