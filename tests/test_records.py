"""The chains of docs/records.md against float64 loops that share no code with them.

The gradients depend on the parameters at which they are taken. The clock is put forward on the way:
so ten steps see the start of a run, the shift, the cool-down and the average of the tail.
"""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

PAGE = Path(__file__).parent.parent / "docs" / "records.md"
CLOCK = (0, 1, 2, 3, 310, 311, 1500, 1501, 2400, 2401)  # steps done before each of ten steps


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def page():
    """What the page defines, without what it does."""
    namespace = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(re.sub(r"^step\(.*", "", block, flags=re.MULTILINE), namespace)
    return namespace


def start(shapes):
    numbers = np.random.default_rng(0)
    draw = lambda shape: jnp.asarray(numbers.standard_normal(shape))
    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


def gradient_at(t, index, w):
    """Some gradient of a leaf at a step, of full rank, that the weights have a part in."""
    grid = np.indices(w.shape)
    phase = sum((1.3 - 0.4 * axis) * (axis + i) * (1 + i) for axis, i in enumerate(grid))
    return np.cos(1 + phase + 0.9 * t * (1 + grid[0]) + index) + 0.1 * w


def put_forward(state, old, new):
    """The state with all counters that stand at `old` moved to `new`."""
    counts = lambda x: jnp.issubdtype(x.dtype, jnp.integer) and x.ndim == 0
    return jax.tree.map(lambda x: jnp.full_like(x, new) if counts(x) and x == old else x, state)


def flat(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def run(tx, params):
    """Return parameters, and what is evaluated, after each of the ten steps."""
    state, update, seen, done = tx.init(params), jax.jit(tx.update), [], 0
    leaves, structure = jax.tree.flatten(params)
    for t in CLOCK:
        if t != done:
            state = put_forward(state, done, t)
        leaves = jax.tree.leaves(params)
        grads = [gradient_at(t, i, np.asarray(w)) for i, w in enumerate(leaves)]
        grads = structure.unflatten([jnp.asarray(g) for g in grads])
        updates, state = update(grads, state, params)
        params, done = optax.apply_updates(params, updates), t + 1
        seen.append((flat(params), flat(gs.eval_params(state, params))))
    return seen


# --- the loops: plain NumPy ---------------------------------------------------------------------


def iterated(x, schatten4=False):
    """Twelve steps of `2 x - 1.5 x^3 + 0.5 x^5`."""
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    size = np.linalg.norm(x @ x.T) ** 0.5 if schatten4 else np.linalg.norm(x) + 1e-7
    x = x / max(size, 1e-7)
    for _ in range(12):
        a = x @ x.T
        x = 2 * x + (-1.5 * a + 0.5 * a @ a) @ x
    return x.T if tall else x


def aspect(x):
    return np.sqrt(max(1, x.shape[1] / x.shape[0])) * x


def falls(t, end, length, power=1.0):
    return min(1, (max(0, end - t) / length) ** power)


class Momentum:
    def __init__(self):
        self.mean = 0.0

    def __call__(self, g, decay=0.95):
        self.mean = self.mean + (1 - decay) * (g - self.mean)
        return (1 - decay) * g + decay * self.mean


class Adam:
    def __init__(self, b2, eps=1e-10, debiased=True):
        self.b2, self.eps, self.debiased, self.m, self.v = b2, eps, debiased, 0.0, 0.0

    def __call__(self, g, t):
        self.m = 0.8 * self.m + 0.2 * g
        self.v = self.b2 * self.v + (1 - self.b2) * g * g
        first, second = (1 - 0.8 ** (t + 1), 1 - self.b2 ** (t + 1)) if self.debiased else (1, 1)
        return self.m / first / (np.sqrt(self.v / second) + self.eps)


class Whitened:
    """Momentum in the basis of SOAP; the gate is that of the attention's projection."""

    def __init__(self, gated):
        self.gated, self.momentum, self.bases, self.v = gated, Momentum(), None, 0.0
        self.factors = [0.0, 0.0]

    def __call__(self, g, t):
        decay = 0.85 + t / 3000 if t < 300 else 0.95 - max(0, t - 2700) / 2000
        u = self.momentum(g, decay)
        s = u
        if self.bases:
            q, p = self.bases
            seen = q.T @ u @ p
            self.v = 0.9 * self.v + 0.1 * seen**2
            s = q @ (seen / np.sqrt(np.maximum(self.v, 1e-16))) @ p.T
            size = lambda x: np.linalg.norm(x @ x.T) ** 0.5
            s = s * size(u) / size(s)
            if self.gated:
                cos = lambda x, y: np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y)
                gate = np.clip((cos(s, u) - 0.2) / 0.8, 0, 1)
                gate = gate * np.clip(cos(s, g) / max(cos(u, g), 1e-8), 0, 1)
                low = 0.45 * min(1, max(0, (1625 - t) / 250))
                s = u + np.clip(gate, low, 0.85 if t < 1625 else 1.0) * (s - u)
        grams = g @ g.T, g.T @ g
        self.factors = [0.9 * a + 0.1 * b for a, b in zip(self.factors, grams, strict=True)]
        if not self.bases:
            self.bases = [np.linalg.eigh(x)[1][:, ::-1] for x in self.factors]
        else:
            for side, factor in enumerate(self.factors):
                q = self.bases[side]
                order = np.argsort(-np.sum(q * (factor @ q), 0))
                self.v = np.take(self.v, order, side)
                self.bases[side] = np.linalg.qr(factor @ q[:, order])[0]
        return s


class KlSoap:
    """KL-SOAP as in record 19: the first call only sets the bases."""

    def __init__(self):
        self.bases = None

    def __call__(self, g, t):
        m, n = g.shape
        if self.bases is None:
            self.factors = [g @ g.T / n, g.T @ g / m]
            self.bases = [np.linalg.eigh(x)[1][:, ::-1] for x in self.factors]
            self.values = [np.full(m, 0.1), np.full(n, 0.1)]
            self.m = self.v = 0 * g
            return 0 * g
        q, p = self.bases
        seen = q.T @ g @ p
        self.m = 0.95 * self.m + 0.05 * g
        self.v = 0.9 * self.v + 0.1 * seen**2
        u = q @ ((q.T @ self.m @ p) / (np.sqrt(self.v) + 1e-8)) @ p.T
        left, right = (np.minimum(np.maximum(x, 1e-30) ** -0.5, 4000) for x in self.values)
        a, b = right[:, None] * (p.T @ g.T), left[:, None] * (q.T @ g)
        grams = a.T @ a / n, b.T @ b / m
        self.factors = [0.9 * x + 0.1 * y for x, y in zip(self.factors, grams, strict=True)]
        squares = np.mean((seen * right) ** 2, 1), np.mean((seen * left[:, None]) ** 2, 0)
        self.values = [0.9 * x + 0.1 * y for x, y in zip(self.values, squares, strict=True)]
        self.bases = [np.linalg.qr(f @ x)[0] for f, x in zip(self.factors, self.bases, strict=True)]
        return u


def hyperball(w, u, rate):
    radius = np.linalg.norm(w)
    new = w - rate * radius * u / max(np.linalg.norm(u), 1e-10)
    return radius * new / np.linalg.norm(new)


def pinned(w, u, rate, decay):
    radius, d = max(np.linalg.norm(w), 1e-8), -rate * u
    target = max(radius + np.sum(d * w) / radius, 1e-8)
    return (w + d) * target / np.linalg.norm(w + d) * (1 - decay * (d * w < 0))


def others(name, steps, part, decay=0.0, rates=(0.3, 1 / 320, 0.01)):
    adam = Adam(0.95)
    peak = rates[("embedding", "lm_head").index(name) if name in ("embedding", "lm_head") else 2]

    def move(w, g, t):
        return w - peak * falls(t, steps, part * steps) * (adam(g, t) + decay * w)

    return move


def is_matrix(name):
    return name in ("query", "attention_proj/kernel", "fc/kernel", "proj")


def loop_1(name):
    momentum = Momentum()

    def move(w, g, t):
        direction = aspect(iterated(momentum(g)))
        return w - 0.02 * falls(t, 3600, 0.7 * 3600) * (direction + 0.01 * w)

    return move if is_matrix(name) else others(name, 3600, 0.7)


def loop_5(name):
    momentum = Momentum()

    def move(w, g, t):
        return hyperball(w, iterated(momentum(g)), 0.018 * falls(t, 3325, 3325))

    return move if is_matrix(name) else others(name, 3325, 0.4)


def loop_10(name):
    momentum, seen = Momentum(), 0.0

    def move(w, g, t):
        nonlocal seen
        direction = aspect(iterated(momentum(g)))
        shorter = 0 if w.shape[1] >= w.shape[0] else 1
        seen = 0.95 * seen + 0.05 * np.mean(direction**2, shorter, keepdims=True)
        scaled = direction / np.sqrt(np.maximum(seen, 1e-10))
        scaled = scaled * np.linalg.norm(direction) / np.linalg.norm(scaled)
        return w - 0.035 * falls(t, 3300, 0.7 * 3300) * (scaled + 0.025 * w)

    return move if is_matrix(name) else others(name, 3300, 0.7)


def loop_19(name):
    soap = KlSoap()
    move = lambda w, g, t: hyperball(w, soap(g, t), 0.018 * falls(t, 3125, 3125))
    return move if is_matrix(name) else others(name, 3125, 0.4)


def loop_36(name):
    momentum = Momentum()

    def move(w, g, t):
        direction = aspect(iterated(momentum(g)))
        return w - 0.025 * falls(t, 3250, 0.7 * 3250) * (direction + 0.05 * w)

    rest = functools.partial(others, decay=0.001, rates=(0.7, 0.004, 0.015))
    return move if is_matrix(name) else rest(name, 3250, 0.7)


def loop_of_stack(name, neurons):
    cool = lambda t, length=1413: falls(t, 2900, length, 1.2)
    if is_matrix(name):
        whitened = Whitened(gated=name.startswith("attention_proj"))

        def move(w, g, t):
            u = aspect(iterated(whitened(g, t), schatten4=True))
            along = np.sum(u * w) / max(np.sum(w * w), 1e-12)
            u = u - 0.5 * min(along, 0) * w
            axis = 0 if neurons else None
            norm = lambda x: np.maximum(np.sqrt(np.sum(x * x, axis=axis, keepdims=True)), 1e-8)
            u = u * np.maximum(1, 0.3825 * norm(w) / norm(u))
            rate = 0.0375 * cool(t, 2386.4)
            return pinned(w, u, rate, 0.025 * rate if neurons else 0.0)

        return move
    b2 = {"fc/bias": 0.997, "attention_proj/bias": 0.9965}.get(name, 0.99)
    peak = {"embedding": 0.3, "lm_head": 1 / 320}.get(name, 0.01)
    adam = Adam(b2, debiased=peak != 0.01)
    return lambda w, g, t: w - peak * cool(t) * adam(g, t)


def looped(move_of, params, shifted=False, tail=False):
    """Ten steps of all leaves: parameters and what is evaluated after each of them."""
    weights = flat(params)
    moves = {name: move_of(name) for name in weights}
    mean, average = dict.fromkeys(weights, 0.0), dict(weights)
    seen, ahead = [], 0.0
    for t in CLOCK:
        trained, read = {}, {}
        after = 0.3 * falls(t, 2900, 1413, 1.2) if 300 <= t + 1 < 1950 and shifted else 0.0
        for index, (name, x) in enumerate(weights.items()):
            y = x + ahead * mean[name]
            new = moves[name](y, gradient_at(t, index, y), t)
            mean[name] = 0.99 * mean[name] + 0.01 * (new - x)
            kept = average[name]
            average[name] = new if t + 1 <= 2400 else kept + (new - kept) / 150
            weights[name], trained[name] = new, new + after * mean[name]
            mixed = tail and t + 1 >= 2400 and name != "embedding"
            read[name] = 0.4 * new + 0.6 * average[name] if mixed else new
        seen.append((trained, read))
        ahead = after
    return seen


LOOPS = {
    "record_1": (loop_1, {}),
    "record_5": (loop_5, {}),
    "record_10": (loop_10, {}),
    "record_19": (loop_19, {}),
    "record_36": (loop_36, {}),
    "record_44": (functools.partial(loop_of_stack, neurons=False), {"shifted": True}),
    "record_46": (functools.partial(loop_of_stack, neurons=True), {"shifted": True, "tail": True}),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_record_is_its_loop_for_ten_steps(page, name):
    params = start(page["SHAPES"])
    ours = run(page[name](), params)
    move_of, arguments = LOOPS[name]
    theirs = looped(move_of, params, **arguments)
    for (trained, read), (expected, evaluated) in zip(ours, theirs, strict=True):
        for leaf in expected:
            np.testing.assert_allclose(trained[leaf], expected[leaf], atol=1e-7, err_msg=leaf)
            np.testing.assert_allclose(read[leaf], evaluated[leaf], atol=1e-7, err_msg=leaf)


def test_the_golden_weights_of_record_46():
    """Golden G18: three steps of a matrix of its own, from a cosine pattern."""
    i, j = np.mgrid[0:3, 0:4]
    wave = lambda t: np.cos(1 + 1.3 * i + 0.7 * j * j + 0.6 * i * j + 0.9 * t * (i + 1))
    rule = optax.chain(
        gs.whiten_momentum(gs.trapezoid(0.95, 2900, rise=300, fall=200, foot=0.85, end=0.85)),
        gs.polar_factor(coefficients="double", normalizer="schatten4"),
        gs.scale_by_aspect_ratio(),
        gs.brake_radius(0.5),
        gs.floor_update(0.3825, each="neuron"),
        gs.scale_by_learning_rate(0.0375),
        gs.pin_radius(0.0375 * 0.025),
    )
    w = jnp.asarray(3 * wave(7))[None]
    state = rule.init(w)
    for t in range(3):
        updates, state = rule.update(jnp.asarray(wave(t))[None], state, w)
        w = w + updates
    found = [*w[0, 0, :3], jnp.linalg.norm(w)]
    np.testing.assert_allclose(found, [1.63585094, -0.33612495, -2.25595711, 7.28470306], rtol=1e-6)


@pytest.mark.parametrize("name", LOOPS)
def test_a_record_stands_in_order_and_has_at_most_a_dozen_parts(page, name):
    params = start(page["SHAPES"])
    with jax.enable_x64(False):
        found = gs.describe(page[name](), jax.tree.map(lambda p: p.astype(jnp.float32), params))
    assert found.remarks == ()
    for leaf in found.leaves:
        assert leaf.optimizer.count(",") < 12
