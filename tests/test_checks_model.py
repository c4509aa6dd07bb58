"""The kit on a model of the user's own: computed with where it is small, traced where it is not."""

import jax
import jax.numpy as jnp
import optax
import pytest

import gradsmith as gs
from gradsmith.checks import Subject, check_optimizer
from gradsmith.checks.bench import bench_of


def shapes(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


MODEL = {
    "blocks": {"kernel": shapes(3, 8, 16), "bias": shapes(3, 16)},
    "embedding": shapes(20, 8),
    "norm": shapes(8, dtype=jnp.bfloat16),
    "frozen": None,
}


def muon_of_the_model(learning_rate=0.01):
    stacked = gs.MatrixAxes(in_axis=1, out_axis=2, batch_axis=0)
    return gs.muon(learning_rate, axes={"blocks/kernel": stacked})


def test_a_small_model_is_what_the_checks_compute_with():
    params = bench_of(Subject("sgd", optax.sgd, model=MODEL)).params
    assert jax.tree.map(lambda p: (p.shape, p.dtype), params) == jax.tree.map(
        lambda p: (p.shape, p.dtype), MODEL
    )


@pytest.mark.parametrize(
    "leaf",
    [shapes(2**20, 2**20), shapes(3, dtype=jnp.int32), shapes(3, dtype=jnp.complex64)],
    ids=["large", "integers", "complex"],
)
def test_any_other_model_is_traced_alone(leaf):
    subject = Subject("sgd", optax.sgd, model={**MODEL, "other": leaf})
    assert subject.small_model is None
    assert set(bench_of(subject).params) == {"layer"}


def test_a_large_model_is_split_over_a_mesh_without_being_computed_with():
    subject = Subject("sgd", optax.sgd, model={"w": shapes(2**20, 2**20)}, mesh={"fsdp": 4})
    outcomes = {r.check: r for r in check_optimizer(subject, only=["model"]).results}
    assert outcomes["model_mesh"].outcome == "passed"
    assert "the model is traced alone: it has more than 2 MiB" in outcomes["model_sharded"].reason


def test_half_a_model_in_half_precision_is_no_fault():
    subject = Subject("sgd", optax.sgd, model=MODEL, mesh={"fsdp": 4})
    chosen = ["numpy_inputs", "inject_learning_rate", "complex64", "model", "leaves_descend"]
    report = check_optimizer(subject, only=chosen)
    assert not report.remarks, str(report)


def test_an_optimizer_made_for_one_model_is_judged_on_it():
    subject = Subject("muon", muon_of_the_model, model=MODEL, mesh={"fsdp": 4})
    report = check_optimizer(subject, only=["abstract", "containers"])
    (skipped,) = (result for result in report.results if result.check == "containers")
    assert "it takes the model alone: axes are declared for 'blocks/kernel'" in skipped.reason


@pytest.mark.slow
def test_it_passes_every_must_there():
    subject = Subject("muon", muon_of_the_model, model=MODEL, mesh={"fsdp": 4})
    report = check_optimizer(subject, tier="must")
    judged = {result.check for result in report.results if result.outcome == "passed"}
    assert {"descent_direction", "leaves_descend", "donate", "orbax", "model_sharded"} <= judged
