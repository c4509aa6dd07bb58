"""States that cannot be saved."""

import collections
from typing import Any, NamedTuple

import jax.numpy as jnp

from .base import (
    Momentum,
    momentum,
    mutant,
    step,
    zeros,
)


@mutant("flax_msgpack", "an OrderedDict")
def ordered_dict():
    def init(params):
        return collections.OrderedDict(momentum=zeros(params).momentum)

    def update(updates, state, params=None):
        updates, new = step(updates, Momentum(state["momentum"]))
        return updates, collections.OrderedDict(momentum=new.momentum)

    return momentum(init, update)


@mutant("orbax", "arrays of size zero")
def array_of_size_zero():
    return momentum(lambda params: {"nothing": jnp.zeros((0,))}, lambda u, s, params=None: (u, s))


@mutant("pickle", "defined inside a function")
def local_class():
    class Local(NamedTuple):
        momentum: Any

    def update(updates, state, params=None):
        updates, new = step(updates, state)
        return updates, Local(new.momentum)

    return momentum(lambda params: Local(zeros(params).momentum), update)
