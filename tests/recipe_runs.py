"""Recipes of the tests of all transformations, sizes around every threshold, and what they do.

In float64, where two programs of one formula differ by rounding only. The gradients are well
conditioned and their matrices nearly square: so all bases are determined, and finite differences
mean something.
"""

import contextlib
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from overridden import overridden

import gradsmith as gs
from gradsmith.matrix import inverse, qr
from gradsmith.xla.targets import current_target

STEPS, SEEDS, RATE = 2, 2, 0.1
TOLERANCE = 1e-8  # rounding of 1e-16, divided by an eps of 1e-8


def recipe(function, **arguments):
    """Return what makes this optimizer at a learning rate."""
    if function not in (gs.mars_adamw, gs.ademamix):  # which take every leaf as it is
        arguments["axes"] = {"blocks": gs.MatrixAxes(-2, -1, batch_axis=0)}
    return functools.partial(function, **arguments)


RECIPES = {
    "muon": recipe(gs.muon),
    "normuon": recipe(gs.normuon),
    "muoneq": recipe(gs.muoneq),
    "adamuon": recipe(gs.adamuon),
    "namo": recipe(gs.namo),
    "muonh": recipe(gs.muonh),
    "adamh": recipe(gs.adamh),
    "scion": recipe(gs.scion, radius=1.0),
    "soap": recipe(gs.soap),
    "soap(factors='kl')": recipe(gs.soap, factors="kl", refresh_every=1),
    "soap_muon": recipe(gs.soap_muon),
    "forge": recipe(gs.forge, refresh_every=2),
    "dion2": recipe(gs.dion2),
    "kron": recipe(gs.kron),
    "shampoo": recipe(gs.shampoo),
    "asgo": recipe(gs.asgo),
    "mars_muon": recipe(gs.mars_muon),
    "mars_adamw": recipe(gs.mars_adamw),
    "ademamix": recipe(gs.ademamix),
}


def muon_in_8_bits(learning_rate, *, axes=None):
    """Muon with a quantized momentum, AdamW for the vectors."""
    direction = lambda axes: optax.chain(
        gs.quantize_state(gs.momentum(), 3), gs.orthogonalize(axes=axes)
    )
    rate = gs.scale_by_learning_rate(learning_rate)
    matrices = lambda axes: optax.chain(direction(axes), rate)
    return gs.partition_by_role(matrices, optax.chain(gs.scale_by_adam(), rate), axes=axes)


FORMS = {
    "muon(8 bits)": recipe(muon_in_8_bits),
    "muon(zolotarev)": recipe(gs.muon, method="zolotarev"),
    "muon(halley)": recipe(gs.muon, method="halley"),
    "muon(svd)": recipe(gs.muon, method="svd"),
    "muon(double)": recipe(gs.muon, coefficients="double"),  # it iterates on the matrix itself
    "dion2(neurons)": recipe(gs.dion2, neuron_decay=0.95),
    "soap(smaller)": recipe(gs.soap, sides="smaller", refresh_every=1),
    "shampoo(newton)": recipe(gs.shampoo, root="newton", max_block=3, refresh_every=2),
}
"""The recipes, and the forms of them that run other code."""


@contextlib.contextmanager
def lowered():
    """Put all thresholds below 8, so that small matrices go where large ones go."""
    numbers = {
        "chunk_bytes": 2 * 8 * 8 * 8,
        "parts": 3,
        "blocks_from": 6,
        "rational_from": 4,
        "gram_block": 4,
        "least_gram_block": 2,
    }
    with pytest.MonkeyPatch.context() as patch, overridden(**numbers):
        patch.setattr(qr, "_WIDTHS", (1, 2, 4))
        patch.setattr(inverse, "LEAF", 5)
        yield


def below():
    """Sizes that are below all thresholds."""
    return {"up": (4, 3), "blocks": (2, 3, 4), "bias": (5,)}


def above():
    """Sizes that are above the lowered thresholds; five matrices are an uneven last chunk."""
    return {"up": (9, 8), "blocks": (5, 8, 8), "bias": (5,)}


def large():
    """Sizes that are above the thresholds as they are."""
    target = current_target()
    chunked = math.isqrt(target.chunk_bytes // 16) + 1  # two matrices are more than a chunk
    side = max(target.blocks_from, target.gram_block + target.least_gram_block, 257)
    return {"blocks": (3, chunked, chunked), "kernel": (side, side)}


SIZES = {"below": (below, contextlib.nullcontext), "above": (above, lowered)}


@functools.cache
def orthogonal(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def array(shape, seed):
    """Return matrices whose singular values lie between 1 and 2, or a vector."""
    if len(shape) == 1:
        return np.random.default_rng(seed).uniform(1, 2, shape)
    *stack, m, n = shape
    spectrum = np.eye(m, n) * np.linspace(1, 2, n)
    one = lambda i: orthogonal(m, 97 * seed + i) @ spectrum @ orthogonal(n, 97 * seed + i + 1)
    return np.stack([one(2 * i) for i in range(math.prod(stack))]).reshape(shape)


def tree(shapes, seed, step):
    """Return parameters, at step 0, or the gradients of a step."""
    numbers = range(100 * seed + 10 * step, 10**9)
    return {k: jnp.asarray(array(s, i)) for (k, s), i in zip(shapes.items(), numbers, strict=False)}


def stacked(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def assert_close(found, expected, tolerance=TOLERANCE):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


class Subject:
    """A recipe at some sizes, and what it does step by step, which is the oracle of the others."""

    def __init__(self, make, shapes):
        self.make, self.shapes = make, shapes
        self.tx = make(RATE)
        self.params = [tree(shapes, seed, 0) for seed in range(SEEDS)]
        self.grads = [
            [tree(shapes, seed, step) for step in range(1, STEPS + 1)] for seed in range(SEEDS)
        ]

    def batch(self, step):
        """The gradients of all seeds."""
        return stacked([grads[step] for grads in self.grads])

    @functools.cached_property
    def update(self):
        params = self.params[0]
        return jax.jit(self.tx.update).lower(params, self.tx.init(params), params).compile()

    @functools.cached_property
    def trajectories(self):
        """The updates, and the states from the first to the last, of every seed."""
        found = []
        for params, grads in zip(self.params, self.grads, strict=True):
            updates, states = [], [self.tx.init(params)]
            for g in grads:
                new, state = self.update(g, states[-1], params)
                updates, states = [*updates, new], [*states, state]
            found.append((updates, states))
        return found


@functools.cache
def subject_of(name, size):
    return Subject((RECIPES | FORMS)[name], SIZES[size][0]())
