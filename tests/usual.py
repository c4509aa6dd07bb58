"""Optimizers that everyone uses, as subjects: no check that must pass may fail on one of them."""

import dataclasses
from typing import Any

import jax
import optax
import optax.contrib

from gradsmith.checks import Subject


def adamw_with_a_mask(learning_rate):
    """Decays matrices alone, as people do."""
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.adamw(learning_rate, weight_decay=0.01, mask=matrices)


def schedule_free(learning_rate):
    return optax.contrib.schedule_free(optax.sgd(learning_rate), learning_rate)


def multi_transform(learning_rate):
    """Matrices go to one optimizer, the rest to another."""
    kinds = lambda params: jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "rest", params)
    each = {"matrix": optax.sgd(learning_rate, momentum=0.9), "rest": optax.lion(learning_rate)}
    return optax.multi_transform(each, kinds)


BF16 = {"inject_bf16": "Optax's bias correction is float32 where the rate is bfloat16"}
USUAL = (
    Subject("sgd", optax.sgd),
    Subject("adam", optax.adam, expected_failures=BF16),
    Subject("lion", optax.lion),
    Subject("adamw with a mask", adamw_with_a_mask),
    Subject("schedule_free", schedule_free),
    Subject("multi_transform", multi_transform),
)
FEW = tuple(s for s in USUAL if s.name in ("adam", "adamw with a mask", "multi_transform"))
"""Those with moments, a mask and parts; where more would take too long."""


def of_model(subject: Subject, model: Any) -> Subject:
    """The same, checked on the tree of a model."""
    return dataclasses.replace(subject, model=model)
