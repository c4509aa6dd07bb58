"""In the training loops of other libraries."""

import importlib
from typing import Any

import jax

from ..bench import Bench
from ..check import check
from ..compare import fail_if_not_finite
from ..problem import gradient, sample
from ..steps import STEP_IS_SOUND


@check(
    requires=("flax",),
    unless=("by_name",),
    needs=(*STEP_IS_SOUND, "containers"),
    call="from flax import nnx; m = nnx.Linear(4, 3, rngs=nnx.Rngs(0)); "
    "o = nnx.Optimizer(m, tx, wrt=nnx.Param); o.update(m, nnx.state(m, nnx.Param))",
    cause="the tree is taken for a dict of arrays, and Flax hands over an nnx.State of variables; "
    "or the state is one array by itself, which nnx.Optimizer cannot hold",
    change="visit trees with jax.tree.map alone; put a lone array in a NamedTuple",
)
def check_nnx_optimizer(bench: Bench) -> None:
    """Two updates of a Flax NNX model under nnx.jit run, and leave it finite."""
    bench.require_own_trees()
    from flax import nnx

    class Layer(nnx.Module):
        def __init__(self):
            self.kernel = nnx.Param(sample((4, 3)))
            self.bias = nnx.Param(sample((3,)))

    model = Layer()
    optimizer = nnx.Optimizer(model, bench.tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, grads):
        params = nnx.state(model, nnx.Param)
        optimizer.update(model, grads, **bench.extra_args(params, grads))

    for _ in range(2):
        grads = gradient(nnx.state(model, nnx.Param))
        step(model, optimizer, grads)
    fail_if_not_finite("the model", nnx.state(model, nnx.Param))


@check(
    requires=("equinox",),
    unless=("by_name",),
    needs=(*STEP_IS_SOUND, "none_leaf"),
    call="import equinox as eqx; m = eqx.nn.Linear(4, 3, key=jax.random.key(0)); "
    "q = eqx.filter(m, eqx.is_array); print(tx.update(q, tx.init(q), q))",
    cause="Equinox models hold None and functions among their leaves, or `update` gives back "
    "another tree",
    change="visit trees with jax.tree.map alone",
)
def check_equinox(bench: Bench) -> None:
    """Two steps on an Equinox model under eqx.filter_jit run, and leave it finite."""
    bench.require_own_trees()
    eqx = importlib.import_module("equinox")

    class Layer(eqx.Module):
        kernel: jax.Array
        bias: jax.Array
        activation: Any

    model = Layer(sample((4, 3)), sample((3,)), jax.nn.relu)
    state = bench.tx.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state, grads):
        updates, state = bench.update(grads, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state

    for _ in range(2):
        model, state = step(model, state, gradient(eqx.filter(model, eqx.is_array)))
    fail_if_not_finite("the model", eqx.filter(model, eqx.is_array))
