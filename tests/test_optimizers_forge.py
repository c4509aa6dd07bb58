"""The recommended recipe: a float64 loop of its matrices, and who gets what."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, newton_schulz_loop

import gradsmith as gs

SHAPES = {"embedding": (7, 4), "query": (4, 9), "head": (4, 6), "bias": (9,)}
STEPS, EVERY, RATE = 9, 3, 0.1


def gradients():
    return [
        {name: gaussian(*shape, seed=10 * t + i) for i, (name, shape) in enumerate(SHAPES.items())}
        for t in range(STEPS)
    ]


def updates_of(tx, grads):
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    state, update, out = tx.init(params), jax.jit(tx.update), []
    for g in grads:
        updates, state = update(jax.tree.map(jnp.asarray, g), state, params)
        out.append(updates)
    return out


def loop(grads):
    """One matrix, its smaller side first, from the docstrings: a basis of that side alone."""
    mean, square, factor, basis, out = 0.0, 0.0, 0.0, None, []
    for t, g in enumerate(grads):
        fan_in, fan_out = g.shape
        g = g if fan_in <= fan_out else g.T
        mean = 0.9 * mean + 0.1 * g
        direction = 0.9 * mean + 0.1 * g
        if basis is not None:
            seen = basis.T @ direction
            square = 0.9 * square + 0.1 * seen**2
            direction = basis @ (seen / np.sqrt(square))
        direction = newton_schulz_loop(direction, 5 * [(3.4445, -4.7750, 2.0315)])
        direction = direction if fan_in <= fan_out else direction.T
        out.append(-RATE * max(1, fan_out / fan_in) ** 0.5 * direction)
        factor = 0.9 * factor + 0.1 * g @ g.T
        if basis is None:
            basis, square = np.linalg.eigh(factor)[1][:, ::-1], 0 * g
        elif t % EVERY == 0:
            order = np.argsort(-np.diag(basis.T @ factor @ basis))
            basis, square = np.linalg.qr(factor @ basis[:, order])[0], square[order]
    return out


def test_every_matrix_goes_as_the_loop_does_tables_too():
    grads = gradients()
    with jax.enable_x64(True):
        ours = updates_of(gs.forge(RATE, refresh_every=EVERY), grads)
    for name in ("embedding", "query", "head"):
        expected = loop([g[name] for g in grads])
        np.testing.assert_allclose([u[name] for u in ours], expected, atol=1e-7)


def test_vectors_go_by_adam_at_the_full_rate():
    grads = gradients()
    ours = updates_of(gs.forge(RATE), grads)
    adam = optax.chain(gs.scale_by_adam(0.9, 0.95, 1e-10), optax.scale(-RATE))
    for u, expected in zip(ours, updates_of(adam, grads), strict=True):
        np.testing.assert_allclose(u["bias"], expected["bias"], rtol=1e-6)


def test_a_table_may_have_an_optimizer_of_its_own():
    grads = gradients()[:1]
    (updates,) = updates_of(gs.forge(RATE, embedding=optax.sgd(1.0)), grads)
    np.testing.assert_allclose(updates["embedding"], -grads[0]["embedding"], rtol=1e-6)
    (plain,) = updates_of(gs.forge(RATE), grads)
    np.testing.assert_array_equal(updates["head"], plain["head"])


@pytest.mark.parametrize(("of_tables", "expected"), [(None, 0.5), (0.2, 0.2)])
def test_tables_decay_as_leaves_of_adamw_do(of_tables, expected):
    grads = gradients()[:1]
    decay = {"weight_decay": 0.5, "adam_weight_decay": of_tables}
    (decayed,), (plain,) = (updates_of(gs.forge(RATE, **d), grads) for d in (decay, {}))
    for name, part in (("query", 0.5), ("embedding", expected), ("head", expected), ("bias", 0.0)):
        np.testing.assert_allclose(decayed[name] - plain[name], -RATE * part, atol=1e-6)
