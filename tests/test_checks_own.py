"""Our own optimizers meet the kit that everyone's meet, without expected failures."""

import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

import gradsmith as gs
from gradsmith import optimizers
from gradsmith.checks import check_optimizer

RECIPES = [function for function in vars(optimizers).values() if inspect.isfunction(function)]


def clipped_muon(learning_rate=0.01):
    """Muon and QK-clip, with the logits that a model would report."""
    is_matrix = lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)
    clip = optax.masked(gs.qk_clip({"": 0.5}), is_matrix)
    tx = optax.chain(gs.muon(learning_rate), clip)

    def update(updates, state, params=None, **extra):
        return tx.update(updates, state, params, max_logits=jnp.array([101.0]), **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def whole_stack(learning_rate=0.01):
    """The parts of docs/records.md in their order, with a tail that begins early."""
    tail = optax.chain(gs.average_tail(3, 0.75), gs.ema_nesterov(0.9, 0.3))

    def matrices(axes):
        direction = optax.chain(
            gs.whiten_momentum(0.9, trust=(0.45, 0.85)),
            gs.polar_factor(),
            gs.scale_by_aspect_ratio(),
            gs.brake_radius(),
            gs.floor_update(each="neuron"),
        )
        return optax.chain(
            gs.per_stack(direction, axes=axes),
            gs.scale_by_learning_rate(learning_rate),
            gs.per_stack(gs.pin_radius(1e-4), axes=axes),
        )

    vectors = gs.scale_by_adam(0.8, 0.95, debias=False)
    others = optax.chain(vectors, gs.scale_by_learning_rate(learning_rate))
    return optax.chain(gs.partition_by_role(matrices, others), tail)


RECIPES += [clipped_muon, whole_stack]


def muon_in_8_bits(learning_rate=0.01):
    """Muon with a quantized momentum, in blocks of which no axis of the checks is a multiple."""
    rate = gs.scale_by_learning_rate(learning_rate)
    direction = optax.chain(gs.quantize_state(gs.momentum(), 5), gs.orthogonalize())
    return gs.partition_by_role(optax.chain(direction, rate), optax.chain(gs.scale_by_adam(), rate))


RECIPES.append(muon_in_8_bits)


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")  # optax.MultiSteps and others need it
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_a_recipe_passes_every_check(recipe):
    report = check_optimizer(recipe)
    remarks = {remark.check for remark in report.remarks}
    # 300 steps of mars_muon at a rate of 0.01 are not enough
    assert remarks <= {"descends"}, str(report)
    assert not report.counts["inconclusive"], str(report)
