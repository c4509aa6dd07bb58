"""A task of your own for a race; this one takes seconds.

    gradsmith race adamw muon --task examples/my_task.py:make_task --rates 0.02 0.1 0.5

A task is a handful of functions: parameters from a key, a loss, a batch from a key, a batch for
validation. Here a small network learns a wavy surface over the plane.
"""

import jax
import jax.numpy as jnp

from gradsmith.race import Task


def make_task(width: int = 32) -> Task:
    """Fit sin(3x) cos(2y) on the square with two hidden layers of `width`."""
    sizes = [2, width, width, 1]
    layers = [f"layer_{i}" for i in range(len(sizes) - 1)]

    def init(key):
        keys = jax.random.split(key, len(layers))
        return {
            layer: {
                "kernel": jax.random.normal(k, (fan_in, fan_out)) / fan_in**0.5,
                "bias": jnp.zeros(fan_out),
            }
            for layer, k, fan_in, fan_out in zip(layers, keys, sizes[:-1], sizes[1:], strict=True)
        }

    def loss(params, batch):
        x, wanted = batch
        for layer in layers:
            x = x @ params[layer]["kernel"] + params[layer]["bias"][None, :]
            x = x if layer == layers[-1] else jnp.tanh(x)
        return jnp.mean((x[:, 0] - wanted) ** 2)

    def batch(key):
        points = jax.random.uniform(key, (256, 2), minval=-1.0, maxval=1.0)
        return points, jnp.sin(3 * points[:, 0]) * jnp.cos(2 * points[:, 1])

    return Task(
        name="surface",
        init=init,
        loss=loss,
        batch=batch,
        selection=batch(jax.random.key(12345)),
        report=batch(jax.random.key(54321)),
        target=0.02,
        steps=200,
        examples_per_step=256,
        unit="points",
        bound=100.0,
    )
