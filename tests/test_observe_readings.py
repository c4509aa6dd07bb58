"""Every reading against its formula in NumPy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs
from gradsmith.matrix.jacobi import small_eigh
from gradsmith.matrix.leading import leading_values
from gradsmith.observe.readings.step import SAMPLED

AXES = {"blocks": gs.MatrixAxes(-2, -1, batch_axis=0)}
SHAPES = {"kernel": (12, 10), "blocks": (3, 4, 6), "bias": (5,)}


def tree(seed, shapes=SHAPES):
    random = np.random.default_rng(seed)
    return {
        name: jnp.asarray(random.normal(size=shape), "float32") for name, shape in shapes.items()
    }


def run(tx, params, steps, gradient=tree):
    """Return gradients, updates and states of every step; the parameters stay."""
    state, told = tx.init(params), []
    update = jax.jit(tx.update)
    for step in range(steps):
        grads = gradient(step + 1)
        updates, state = update(grads, state, params)
        told.append((grads, updates, state))
    return told


def matrices(leaf):
    """The matrices of a leaf in float64, one to a row."""
    leaf = np.asarray(leaf, np.float64)
    return leaf.reshape(3, -1) if leaf.ndim == 3 else leaf.reshape(1, -1)


def cos(x, y):
    return np.sum(x * y, -1) / np.sqrt(np.sum(x * x, -1) * np.sum(y * y, -1))


def norm(x):
    return np.sqrt(np.sum(x**2, -1))


LINES = {
    "param_norm": lambda g, u, p, before: norm(p),
    "gradient_norm": lambda g, u, p, before: norm(g),
    "update_norm": lambda g, u, p, before: norm(u),
    "param_rms": lambda g, u, p, before: np.sqrt(np.mean(p**2, -1)),
    "gradient_rms": lambda g, u, p, before: np.sqrt(np.mean(g**2, -1)),
    "update_rms": lambda g, u, p, before: np.sqrt(np.mean(u**2, -1)),
    "update_ratio": lambda g, u, p, before: np.log10(norm(u) / norm(p)),
    "effective_rate": lambda g, u, p, before: -np.sum(u * g, -1) / np.sum(g * g, -1),
    "cosine_gradient": lambda g, u, p, before: cos(u, -g),
    "cosine_param": lambda g, u, p, before: cos(u, p),
    "cosine_before": lambda g, u, p, before: cos(u, before),
    "zero": lambda g, u, p, before: np.mean(u == 0, -1),
    "changed": lambda g, u, p, before: np.mean(u != g, -1),
    "uphill": lambda g, u, p, before: np.mean(u * g > 0, -1),
    "outward": lambda g, u, p, before: np.mean(u * p > 0, -1),
}


@pytest.fixture(scope="module")
def watched():
    """Two readings of a chain whose updates are partly zero and partly the gradient itself."""

    def some(updates, params):
        kept = lambda u: jnp.where(u > 1.5, 0.0, jnp.where(u > 0.5, u, -0.1 * u))
        return jax.tree.map(kept, updates)

    tx = gs.watch(
        optax.chain(optax.trace(0.5), optax.stateless(some)),
        every=3,
        readings=["sizes", "directions", "shares"],
        axes=AXES,
    )
    return tree(0), run(tx, tree(0), 6, lambda step: tree(step % 2))


@pytest.mark.parametrize("step", [3, 6])
@pytest.mark.parametrize("name", LINES)
def test_a_reading_is_its_formula(watched, name, step):
    params, told = watched
    (grads, updates, state), before = told[step - 1], told[step - 2][1]
    found = gs.readings(state)
    assert found["step"] == step
    for leaf in SHAPES:
        g, u, p, b = (matrices(x[leaf]) for x in (grads, updates, params, before))
        expected = LINES[name](g, u, p, b)
        value = found[f"{leaf}/{name}"]
        assert value.shape == ((3,) if leaf == "blocks" else ())
        np.testing.assert_allclose(np.ravel(value), expected, rtol=2e-5, atol=1e-6)


def test_the_effective_rate_of_gradient_descent_is_its_learning_rate():
    tx = gs.watch(optax.sgd(0.125), every=1, readings=["sizes"], axes=AXES)
    found = gs.readings(run(tx, tree(0), 1)[0][2])
    for leaf in SHAPES:
        np.testing.assert_allclose(found[f"{leaf}/effective_rate"], 0.125, rtol=1e-6)


def test_what_cautious_decay_leaves_alone_is_what_moves_outward():
    tx = optax.chain(gs.decay_weights_cautiously(0.5), optax.scale(-0.1))
    params, grads = tree(0), tree(1)
    _, state = (watched := gs.watch(tx, every=1)).update(grads, watched.init(params), params)
    for leaf in SHAPES:
        masked = np.mean(np.asarray(grads[leaf]) * np.asarray(params[leaf]) < 0)
        share = np.mean(gs.readings(state)[f"{leaf}/outward"])
        np.testing.assert_allclose(share, masked, rtol=1e-6)


def test_what_a_watched_clip_has_clipped_is_what_it_has_changed():
    tx = optax.chain(gs.watch(optax.clip(0.5), every=1, readings=["shares"]), optax.sgd(0.1))
    _, state = tx.update(tree(1), tx.init(tree(0)))
    for leaf in ("kernel", "bias"):
        clipped = np.mean(np.abs(np.asarray(tree(1)[leaf])) > 0.5)
        np.testing.assert_allclose(gs.readings(state)[f"{leaf}/changed"], clipped, rtol=1e-6)


def test_what_is_still_did_not_move():
    """Half of the gradients are zero, and the mean starts at zero."""
    grads = {"kernel": jnp.ones((4, 8)).at[:, 4:].set(0.0)}
    tx = gs.watch(gs.momentum(0.5), every=2, readings=["shares"])
    found = gs.readings(run(tx, grads, 2, lambda step: grads)[-1][2])
    assert found["kernel/momentum_still"] == 0.5


@pytest.mark.parametrize("rank", [1, 100])
def test_a_sample_tells_the_cosine_of_large_matrices(rank):
    random = np.random.default_rng(rank)
    first, second = (random.normal(size=(200, rank)) @ random.normal(size=(rank, 90)) for _ in "ab")
    grads = [first, 0.6 * first / norm(first.ravel()) + 0.8 * second / norm(second.ravel())]
    tx = gs.watch(optax.identity(), every=2, readings=["directions"])
    params = {"w": jnp.zeros((200, 90))}
    told = run(tx, params, 2, lambda step: {"w": jnp.asarray(grads[step - 1], "float32")})
    expected = cos(*(x.ravel() for x in grads))
    error = gs.readings(told[-1][2])["w/cosine_before"] - expected
    assert 1e-6 < abs(error) < 4 / np.sqrt(SAMPLED)


def spectrum(kind, m, n):
    random = np.random.default_rng(m)
    u, _ = np.linalg.qr(random.normal(size=(m, min(m, n))))
    v, _ = np.linalg.qr(random.normal(size=(n, min(m, n))))
    index = np.arange(1, min(m, n) + 1)
    values = {
        "flat": np.ones(len(index)),
        "falling": 1.0 / index,
        "one": 1.0 * (index == 1),
        "zero": 0.0 * index,
    }[kind]
    return (u * values) @ v.T


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
@pytest.mark.parametrize("kind", ["flat", "falling", "one", "zero"])
def test_leading_values_are_never_high_and_hardly_low(kind, scale):
    shapes = [(60, 40), (5, 40), (40, 60)]
    exact = [spectrum(kind, *shape) for shape in shapes]
    stacks = [jnp.asarray(scale * x[None], "float32") for x in exact]
    for x, found in zip(exact, leading_values(stacks, jax.random.key(0)), strict=True):
        true = np.zeros(8)
        true[: min(x.shape)] = np.linalg.svd(x, compute_uv=False)[:8]
        ratio = np.asarray(found[0], np.float64) / scale
        assert (ratio <= true * (1 + 1e-5) + 1e-3 * true[0]).all()
        assert (ratio[:3] >= 0.98 * true[:3] - 1e-9).all()


def test_small_eigenvalues_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=(9, 8, 8))
    exact = x @ x.transpose(0, 2, 1)
    exact[0] = np.diag([3.0, 3, 3, 0, 0, 1, 1, 1])
    values, vectors = map(np.asarray, small_eigh(jnp.asarray(exact, "float32")))
    np.testing.assert_allclose(np.sort(values, -1), np.linalg.eigvalsh(exact), atol=2e-5)
    back = np.einsum("kip,kp,kjp->kij", vectors, values, vectors)
    np.testing.assert_allclose(back, exact, atol=5e-5)


def test_a_spectrum_of_updates_and_momenta_is_told_by_matrix():
    same = gs.per_matrix(lambda x: x, axes=AXES)
    tx = gs.watch(
        optax.partition(
            {"m": optax.chain(gs.momentum(0.0, "ema"), same), "v": optax.sgd(1.0)},
            {"kernel": "m", "blocks": "m", "bias": "v"},
        ),
        every=1,
        readings=["spectra"],
    )
    _, updates, state = run(tx, tree(0), 1)[0]
    found = gs.readings(state)
    assert {name.partition("/")[0] for name in found} == {"step", "kernel", "blocks"}
    for leaf in ("kernel", "blocks"):
        exact = np.asarray(updates[leaf], np.float64).reshape(-1, *SHAPES[leaf][-2:])
        values = np.linalg.svd(exact, compute_uv=False)
        for of in ("update", "momentum"):
            told = found[f"{leaf}/{of}_spectrum"].reshape(len(exact), 8)
            np.testing.assert_allclose(told[:, :3], values[:, :3], rtol=0.1)
            largest = np.ravel(found[f"{leaf}/{of}_spectral_norm"])
            np.testing.assert_array_equal(largest, told[:, 0])
            rank = np.sum(values**2, -1) / largest.astype(np.float64) ** 2
            np.testing.assert_allclose(np.ravel(found[f"{leaf}/{of}_stable_rank"]), rank, rtol=1e-4)
        squares = values**2 / np.mean(values**2, -1, keepdims=True)
        error = np.sqrt(np.mean((squares - 1) ** 2, -1))
        np.testing.assert_allclose(
            np.ravel(found[f"{leaf}/update_orthogonality"]), error, rtol=1e-4
        )


def off_diagonal(factor, basis):
    rotated = basis.T @ factor @ basis
    return 1 - np.sum(np.diag(rotated) ** 2) / np.sum(rotated**2)


def turned(before, now):
    return 1 - np.sum(np.linalg.svd(before.T @ now, compute_uv=False) ** 2) / before.shape[1]


@pytest.mark.parametrize("mesh", [False, True], ids=["one device", "eight"])
def test_bases_of_soap_are_told_by_leaf(mesh):
    shapes = {"a": (12, 16), "b": (12, 16), "c": (9, 10)}
    tx = gs.watch(gs.soap(0.1, refresh_every=1), every=3, readings=["bases"])
    gradient = lambda step: tree(step, shapes)
    if mesh:
        devices = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
        home = NamedSharding(devices, P())
        put = lambda step: jax.device_put(gradient(step), home)
        with jax.set_mesh(devices):
            told = run(tx, put(0), 6, put)
    else:
        told = run(tx, gradient(0), 6, gradient)
    found = gs.readings(told[5][2])
    first, last = jax.device_get((told[2][2], told[5][2]))
    assert len(found) == 1 + 4 * len(shapes)
    buckets = lambda s: s.inner_state.inner_states["matrices"].inner_state[0].buckets
    for leaf, key, index in [
        ("a", "2x12x16 float32", 0), ("b", "2x12x16 float32", 1), ("c", "1x9x10 float32", 0)
    ]:  # fmt: skip
        before, now = buckets(first)[key], buckets(last)[key]
        for side in ("in", "out"):
            pick = lambda pair, side=side, i=index: np.asarray(
                getattr(pair, f"fan_{side}")[i], "f8"
            )
            basis = pick(now.bases)
            expected = off_diagonal(pick(now.factors), basis)
            value = found[f"{leaf}/off_diagonal_{side}"]
            np.testing.assert_allclose(value, expected, atol=1e-5)
            expected = turned(pick(before.bases)[:, :8], basis[:, :8])
            value = found[f"{leaf}/turned_{side}"]
            np.testing.assert_allclose(value, expected, atol=1e-5)
            assert value > 1e-3


def test_the_root_of_shampoo_is_stale_where_it_does_not_commute():
    shapes = {"a": (24, 10)}
    tx = gs.watch(gs.shampoo(0.1, refresh_every=4, max_block=12), every=3, readings=["bases"])
    told = run(tx, tree(0, shapes), 6, lambda step: tree(step, shapes))
    found = gs.readings(told[2][2])
    state = told[2][2].inner_state.inner_states["matrices"].inner_state[0].buckets
    node = state["1x24x10 float32"].direction
    for side in ("in", "out"):
        factors, roots = (
            np.asarray(getattr(x, f"fan_{side}"), "f8") for x in (node.factors, node.roots)
        )
        expected = []
        for factor, root in zip(factors, roots, strict=True):
            commutator = factor @ root - root @ factor
            expected.append(np.sum(commutator**2) / 2 / np.sum((factor @ root) ** 2))
        assert len(expected) == 2
        np.testing.assert_allclose(found[f"a/off_diagonal_{side}"], np.mean(expected), rtol=1e-3)
    assert gs.readings(told[5][2])["a/turned_in"] > 1e-3
