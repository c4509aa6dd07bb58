"""Race an optimizer against AdamW on a small problem, and look at what it does to a matrix."""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from gradsmith.race import Display, Entry, Protocol, Race, rows, run_race

sys.path.append(str(Path.cwd().parent))  # the folder of my_task.py
from my_task import make_task

RATES = (0.006, 0.02, 0.06, 0.2, 0.6)


def spectra(optimizer):
    """Return the singular values of a gradient and of its update, each over the largest.

    They are those of the eleventh step; gradients change in each.
    """
    tx = optimizer(1.0)
    params = {"layer": {"kernel": jnp.zeros((32, 32))}}
    shape, keys = params["layer"]["kernel"].shape, jax.random.split(jax.random.key(0), 11)
    slopes = jnp.diag(2.0 ** -jnp.arange(8.0).repeat(4))
    state = tx.init(params)
    for key in keys:
        gradient = slopes @ jax.random.normal(key, shape)
        updates, state = tx.update({"layer": {"kernel": gradient}}, state, params)
    values = [np.linalg.svd(x, compute_uv=False) for x in (gradient, updates["layer"]["kernel"])]
    return [x / x[0] for x in values]


def look(optimizer, name):
    """Draw the curves of a race against AdamW, and both spectra."""
    entries = (Entry(name, optimizer), Entry("AdamW", optax.adamw))
    race = Race(make_task(), entries, RATES, Protocol(seeds=3, extensions=0))
    with tempfile.TemporaryDirectory() as folder:
        records = run_race(race, Path(folder), Display())
    _, (curves, spectrum) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for row in rows(race, records):
        best = [r.curve for r in records if r.entry == row.entry and r.seed >= 0]
        loss = np.mean([curve.validation_loss for curve in best], axis=0)
        label = f"{row.entry}, rate {row.settings['learning_rate']:g}"
        curves.semilogy(best[0].step, loss, "C0" if row.entry == "AdamW" else "C1", label=label)
        print(f"{row.entry}: loss {row.loss:.4f}")
    curves.set(xlabel="step", ylabel="validation loss")
    curves.legend()
    for values, label in zip(spectra(optimizer), ("gradient", "update"), strict=True):
        spectrum.semilogy(np.arange(1, 1 + len(values)), values, label=label)
    spectrum.set(xlabel="singular value", ylabel="over the largest", ylim=(1e-3, 1.3))
    spectrum.legend()
    plt.show()
