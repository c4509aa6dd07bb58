"""Optimizers with a fault each, to be found in the report of a race; docs/watch.md says where."""

import jax
import jax.numpy as jnp
import optax

import gradsmith as gs
from gradsmith.race import Task

SIZES = {
    "first": (16, 32),
    "second": (32, 32),
    "third": (32, 32),
    "fourth": (32, 32),
    "head": (32, 8),
}
TEACHER = jax.random.normal(jax.random.key(1), (16, 8)) / 4


def make_task(steps: int = 300) -> Task:
    """Learn a function of sixteen inputs with four hidden layers."""

    def init(key):
        keys = jax.random.split(key, len(SIZES))
        return {
            name: jax.random.normal(k, shape) / shape[0] ** 0.5
            for k, (name, shape) in zip(keys, SIZES.items(), strict=True)
        }

    def loss(params, x):
        hidden = x
        for name in SIZES:
            hidden = hidden @ params[name]
            hidden = hidden if name == "head" else jnp.tanh(hidden)
        return jnp.mean((hidden - jnp.sin(x @ TEACHER)) ** 2)

    def batch(key):
        return jax.random.normal(key, (64, 16))

    return Task(
        name="story",
        init=init,
        loss=loss,
        batch=batch,
        selection=batch(jax.random.key(12345)),
        report=batch(jax.random.key(54321)),
        target=0.05,
        steps=steps,
        examples_per_step=64,
        bound=100.0,
    )


def muon(learning_rate):
    """Muon as it should be."""
    return gs.muon(learning_rate, head=optax.adam(learning_rate))


def small_layer(learning_rate):
    """A factor of a tenth was left on the second layer."""
    head = optax.adam(learning_rate)
    return gs.muon(learning_rate, head=head, lr_scales={"second": 0.1})


def hot_head(learning_rate):
    """The head has ten times its rate."""
    return gs.muon(learning_rate, head=optax.adam(10 * learning_rate))


def soap(learning_rate):
    """SOAP that refreshes its bases every ten steps."""
    return gs.soap(learning_rate, refresh_every=10)


def frozen_basis(learning_rate):
    """SOAP whose bases are those of the first step for ever."""
    return gs.soap(learning_rate, refresh_every=1_000_000)


def patient(learning_rate):
    """Muon with a long memory."""
    return gs.muon(learning_rate, momentum=0.999, momentum_kind="ema")


def patient_in_16_bits(learning_rate):
    """The same in bfloat16, where a step of a thousandth is less than the last bit."""
    return gs.muon(learning_rate, momentum=0.999, momentum_kind="ema", momentum_dtype=jnp.bfloat16)
