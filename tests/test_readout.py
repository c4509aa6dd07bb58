"""Which parameters to evaluate: found anywhere in a state, of ours, of Optax, of a stranger."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from matrix_oracles import gaussian

import gradsmith as gs

PARAMS = {
    "kernel": jnp.asarray(gaussian(8, 4), jnp.float32),
    "bias": jnp.asarray(gaussian(4, seed=1), jnp.float32),
}
LABELS = {"kernel": "one", "bias": "other"}


def averaged():
    return optax.chain(optax.sgd(0.1), gs.average_weights(0.5))


def train(tx, params=PARAMS, steps=4):
    """Descend `|p|^2 / 2`, and return parameters, state and all parameters on the way."""
    state, update, seen = tx.init(params), jax.jit(tx.update), []
    for _ in range(steps):
        updates, state = update(params, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return params, state, seen


def mean_of(seen, decay=0.5):
    """The debiased moving average, in float64."""
    weights = decay ** np.arange(len(seen))[::-1]
    wide = [np.asarray(x, np.float64) for x in seen]
    return np.tensordot(weights / weights.sum(), np.stack(wide), 1)


WRAPPED = {
    "chain": lambda: optax.chain(optax.clip(100.0), averaged()),
    "MultiSteps": lambda: optax.MultiSteps(averaged(), 1),
    "inject": lambda: optax.inject_hyperparams(
        lambda rate: optax.chain(optax.sgd(rate), gs.average_weights(0.5))
    )(rate=0.1),
    "behind a partition": lambda: optax.chain(
        optax.partition({"one": optax.sgd(0.1), "other": optax.sgd(0.1)}, LABELS),
        gs.average_weights(0.5),
    ),
    "finite": lambda: optax.apply_if_finite(averaged(), 3),
    "watch": lambda: gs.watch(averaged(), every=2),
}


@pytest.mark.usefixtures("standard_promotion")  # optax.MultiSteps needs it
@pytest.mark.parametrize("name", WRAPPED)
def test_an_average_is_found_under_every_wrapper(name):
    params, state, seen = train(WRAPPED[name]())
    read = gs.eval_params(state, params)
    for leaf in PARAMS:
        np.testing.assert_allclose(read[leaf], mean_of([p[leaf] for p in seen]), rtol=1e-5)
        assert np.abs(read[leaf] - params[leaf]).max() > 1e-3


@pytest.mark.parametrize(
    "tx",
    [
        optax.partition({"one": averaged(), "other": optax.sgd(0.1)}, LABELS),
        optax.masked(averaged(), {"kernel": True, "bias": False}),
        gs.partition_by_role(matrices=averaged(), others=optax.sgd(0.1)),
    ],
    ids=["partition", "masked", "by role"],
)
def test_leaves_that_an_average_does_not_keep_are_themselves(tx):
    params, state, seen = train(tx)
    read = gs.eval_params(state, params)
    np.testing.assert_allclose(read["kernel"], mean_of([p["kernel"] for p in seen]), rtol=1e-5)
    np.testing.assert_array_equal(read["bias"], params["bias"])


@pytest.mark.parametrize("tx", [optax.adam(0.1), gs.muon(0.1), optax.MultiSteps(gs.soap(0.1), 2)])
def test_where_nothing_of_the_kind_is_kept_the_parameters_come_back(tx):
    assert gs.eval_params(tx.init(PARAMS), PARAMS) is PARAMS


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("around", [lambda tx: tx, lambda tx: optax.chain(optax.clip(9.0), tx)])
def test_schedule_free_is_read_by_optax(around):
    free = optax.contrib.schedule_free(optax.sgd(0.1), 0.1, b1=0.9)
    params, state, _ = train(around(free))
    inside = jax.tree.leaves(state, is_leaf=lambda node: hasattr(node, "z"))
    (found,) = [node for node in inside if hasattr(node, "z")]
    expected = optax.contrib.schedule_free_eval_params(found, params)
    read = gs.eval_params(state, params)
    for leaf in PARAMS:
        np.testing.assert_allclose(read[leaf], expected[leaf], rtol=1e-6)
        assert np.abs(read[leaf] - params[leaf]).max() > 1e-3


@pytest.mark.usefixtures("standard_promotion")
def test_schedule_free_in_one_group_leaves_the_other_alone():
    free = optax.contrib.schedule_free_sgd(0.1, b1=0.5)
    tx = optax.partition({"one": free, "other": optax.sgd(0.1)}, LABELS)
    params, state, _ = train(tx)
    alone, of_alone, _ = train(free, {"kernel": PARAMS["kernel"]})
    expected = optax.contrib.schedule_free_eval_params(of_alone, alone)["kernel"]
    read = gs.eval_params(state, params)
    np.testing.assert_allclose(read["kernel"], expected, rtol=1e-6)
    np.testing.assert_array_equal(read["bias"], params["bias"])


class Twice(NamedTuple):
    seen: Any

    def averaged_params(self, params):
        return jax.tree.map(lambda p: 2.0 * p, params)


class Shift(NamedTuple):
    by: Any

    def unshifted_params(self, params):
        return jax.tree.map(lambda p: p - self.by, params)


def of_state(make):
    """A transformation of a stranger that keeps what `make` returns, and changes nothing."""
    keep = lambda params: make(jnp.ones(()))
    return optax.GradientTransformation(keep, lambda u, state, params=None: (u, state))


def test_a_stranger_answers_by_a_method_and_the_last_in_the_chain_first():
    tx = optax.chain(of_state(Twice), optax.sgd(0.1), of_state(Shift))
    read = gs.eval_params(tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(read["bias"], 2 * (PARAMS["bias"] - 1))


def test_two_averages_are_refused_with_their_paths():
    two = optax.chain(averaged(), of_state(Twice))
    with pytest.raises(ValueError, match=r"2 averages of the weights, at 0/1, 1; keep one"):
        gs.eval_params(two.init(PARAMS), PARAMS)
    groups = optax.partition({"one": averaged(), "other": averaged()}, LABELS)
    with pytest.raises(ValueError, match=r"inner_states/one/.*, inner_states/other/"):
        gs.eval_params(groups.init(PARAMS), PARAMS)


def test_an_average_of_shifted_points_and_one_inside_another_are_refused():
    shifted = optax.chain(of_state(Shift), averaged())
    with pytest.raises(ValueError, match="average at 1/1 stands behind the shift at 0"):
        gs.eval_params(shifted.init(PARAMS), PARAMS)
    nested = optax.contrib.schedule_free(averaged(), 0.1)
    with pytest.raises(ValueError, match="the state at the root says which parameters to evaluate"):
        gs.eval_params(nested.init(PARAMS), PARAMS)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_dtypes_and_shapes_are_those_of_the_parameters(dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    form = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    trained, state, _ = train(averaged(), params)
    assert form(gs.eval_params(state, trained)) == form(params)
    with jax.numpy_dtype_promotion("standard"):  # Optax needs it
        trained, state, _ = train(optax.contrib.schedule_free(optax.sgd(0.125), 0.125), params)
        assert form(gs.eval_params(state, trained)) == form(params)


def test_under_jit_vmap_and_grad():
    tx = averaged()
    params, state, _ = train(tx)
    expected = gs.eval_params(state, params)
    jitted = jax.jit(gs.eval_params)(state, params)
    stack = lambda tree: jax.tree.map(lambda x: jnp.stack([x, x]), tree)
    batched = jax.vmap(gs.eval_params)(stack(state), stack(params))
    for leaf in PARAMS:
        np.testing.assert_allclose(jitted[leaf], expected[leaf], rtol=1e-6)
        np.testing.assert_allclose(batched[leaf][1], expected[leaf], rtol=1e-6)
    total = lambda state: jnp.sum(gs.eval_params(state, params)["bias"])
    slope = jax.grad(total, allow_int=True)(state)[1].average["bias"]
    np.testing.assert_allclose(slope, 1 / state[1].total, rtol=1e-6)


def test_shardings_are_those_of_the_parameters():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:4])
    place = lambda x: jax.device_put(x, NamedSharding(mesh, P("x")))
    with jax.set_mesh(mesh):
        params, state, seen = train(averaged(), jax.tree.map(place, PARAMS))
        read = jax.jit(gs.eval_params)(state, params)
    for leaf in PARAMS:
        assert read[leaf].sharding == params[leaf].sharding
        np.testing.assert_allclose(read[leaf], mean_of([p[leaf] for p in seen]), rtol=1e-5)
