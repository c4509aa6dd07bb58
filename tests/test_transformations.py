"""Every recipe under every transformation of JAX and Optax, on both sides of every threshold.

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
from jax.sharding import PartitionSpec as P
from overridden import overridden

import gradsmith as gs
from gradsmith.catalogue import TECHNIQUES
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
    "soap": recipe(gs.soap),
    "soap(factors='kl')": recipe(gs.soap, factors="kl", refresh_every=1),
    "shampoo": recipe(gs.shampoo),
    "asgo": recipe(gs.asgo),
    "mars_muon": recipe(gs.mars_muon),
    "mars_adamw": recipe(gs.mars_adamw),
    "ademamix": recipe(gs.ademamix),
}
FORMS = {
    "muon(zolotarev)": recipe(gs.muon, method="zolotarev"),
    "muon(halley)": recipe(gs.muon, method="halley"),
    "muon(svd)": recipe(gs.muon, method="svd"),
    "muon(double)": recipe(gs.muon, coefficients="double"),  # it iterates on the matrix itself
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


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


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


@pytest.fixture
def subject(request):
    name, size = request.param
    with SIZES[size][1]():
        yield subject_of(name, size)


def case(name, size):
    is_fast = (name, size) == ("muon", "below")
    return pytest.param((name, size), id=f"{name}-{size}", marks=() if is_fast else SLOW)


SLOW = pytest.mark.slow
everywhere = pytest.mark.parametrize(
    "subject", [case(name, size) for size in SIZES for name in RECIPES | FORMS], indirect=True
)


def test_every_optimizer_of_the_catalogue_is_here():
    assert {t.name for t in TECHNIQUES if t.kind == "optimizer"} == set(RECIPES)


def check_derivatives(make, shapes, steps=STEPS):
    """Hold grad and jvp, through all steps, against central differences."""
    params = tree(shapes, 0, 0)
    grads = stacked([tree(shapes, 0, step) for step in range(1, steps + 1)])
    way, weights = tree(shapes, 1, 0), tree(shapes, 1, 1)

    def total(shift, rate):
        """Return a number that depends on all updates: all gradients are shifted."""
        tx = make(rate)

        def step(state, g):
            updates, state = tx.update(jax.tree.map(jnp.add, g, shift), state, params)
            return state, optax.tree.vdot(weights, updates)

        return jnp.sum(jax.lax.scan(step, tx.init(params), grads)[1])

    backward = jax.jit(jax.value_and_grad(total, (0, 1)))
    after = lambda h: backward(jax.tree.map(lambda x: h * x, way), RATE + h)
    h = 1e-5
    expected = (after(h)[0] - after(-h)[0]) / (2 * h)
    of_shift, of_rate = after(0.0)[1]
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(optax.tree.vdot(of_shift, way) + of_rate, expected, rtol=1e-5)
    zero = jax.tree.map(jnp.zeros_like, way)
    forward = jax.jit(lambda way: jax.jvp(total, (zero, RATE), (way, 1.0))[1])
    np.testing.assert_allclose(forward(way), expected, rtol=1e-5)


@everywhere
def test_derivatives_are_finite_differences(subject):
    """Of the stack alone, to compile half; a matrix by itself is in the test of large ones."""
    check_derivatives(subject.make, {k: subject.shapes[k] for k in ("blocks", "bias")})


def gathers(compiled):
    text = compiled.as_text()
    return [text.count(f" {operation}(") for operation in ("gather", "scatter")]


def check_batch(subject):
    batch = stacked(subject.params)
    state = jax.jit(jax.vmap(subject.tx.init))(batch)
    update, seen = jax.jit(jax.vmap(subject.tx.update)).lower(batch, state, batch).compile(), []
    for batched, alone in zip(gathers(update), gathers(subject.update), strict=True):
        assert batched <= alone
    for step in range(STEPS):
        updates, state = update(subject.batch(step), state, batch)
        seen.append(updates)
    for seed, (updates, _) in enumerate(subject.trajectories):
        assert_close([jax.tree.map(lambda x, seed=seed: x[seed], u) for u in seen], updates)


@everywhere
def test_a_batch_of_seeds_goes_as_each_of_them_without_gathers(subject):
    check_batch(subject)


@everywhere
def test_a_scan_goes_as_a_loop(subject):
    (updates, states), params = subject.trajectories[0], subject.params[0]

    def run(state, grads):
        return jax.lax.scan(lambda s, g: subject.tx.update(g, s, params)[::-1], state, grads)

    state, seen = jax.jit(run)(states[0], stacked(subject.grads[0]))
    assert_close(seen, stacked(updates))
    assert_close(state, states[-1])


@everywhere
def test_gradients_and_state_may_be_donated_and_are_used(subject):
    (updates, states), params = subject.trajectories[0], subject.params[0]
    state, grads = jax.tree.map(jnp.copy, (states[0], subject.grads[0]))
    update = jax.jit(subject.tx.update, donate_argnums=(0, 1))
    compiled = update.lower(grads[0], state, params).compile()
    given = sum(x.nbytes for x in jax.tree.leaves((grads[0], state)))
    assert compiled.memory_analysis().alias_size_in_bytes == given
    for step in range(STEPS):
        new, state = compiled(grads[step], state, params)
        assert_close(new, updates[step])
    assert_close(state, states[-1])


@everywhere
@pytest.mark.parametrize("init", ["inside", "outside"])
def test_every_device_of_a_shard_map_may_train_a_seed(subject, init):
    """From the first step on; or, with a state from outside, in the last one."""
    mesh = jax.make_mesh((SEEDS,), ("seed",), axis_types=(jax.sharding.AxisType.Auto,))
    steps = range(0 if init == "inside" else STEPS - 1, STEPS)

    def train(params, state, *grads):
        params, state, grads = jax.tree.map(lambda x: x[0], (params, state, grads))
        state, seen = subject.tx.init(params) if init == "inside" else state, []
        for g in grads:
            updates, state = subject.tx.update(g, state, params)
            seen.append(updates)
        return jax.tree.map(lambda x: x[None], (seen, state))

    spec = P("seed")
    mapped = jax.jit(jax.shard_map(train, mesh=mesh, in_specs=spec, out_specs=spec))
    state = stacked([states[steps.start] for _, states in subject.trajectories])
    found = mapped(stacked(subject.params), state, *(subject.batch(step) for step in steps))
    expected = [(u[steps.start :], states[-1]) for u, states in subject.trajectories]
    assert_close(found, stacked(expected))


@everywhere
def test_injected_numbers_change_nothing(subject):
    (updates, states), params = subject.trajectories[0], subject.params[0]
    fixed = subject.make.keywords.keys() & {"max_block"}
    tx = optax.inject_hyperparams(subject.make, static_args=fixed)(RATE)
    state, update = tx.init(params), jax.jit(tx.update)
    for step in range(STEPS):
        new, state = update(subject.grads[0][step], state, params)
        assert_close(new, updates[step])
    assert_close(state.inner_state, states[-1])


@everywhere
def test_two_halves_of_a_batch_go_as_the_batch(subject):
    (updates, states), params = subject.trajectories[0], subject.params[0]
    tx = optax.MultiSteps(subject.tx, 2)
    state, update = tx.init(params), jax.jit(tx.update)
    for step, grads in enumerate(subject.grads[0]):
        for part in (0.5, 1.5):
            half = jax.tree.map(lambda g, part=part: part * g, grads)
            with jax.numpy_dtype_promotion("standard"):  # Optax averages in float32
                new, state = update(half, state, params)
        assert_close(new, updates[step], 1e-5)
    assert_close(state.inner_opt_state, states[-1], 1e-5)


@everywhere
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_narrow_parameters_go_nearly_as_wide_ones(subject, dtype):
    """The state is float32 or wider, so that only the numbers that come and go are narrow."""
    narrow = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)
    params = narrow(subject.params[0])
    state, update = subject.tx.init(params), jax.jit(subject.tx.update)
    for step, grads in enumerate(subject.grads[0]):
        updates, state = update(narrow(grads), state, params)
        wide = subject.trajectories[0][0][step]
        for name, found in updates.items():
            assert found.dtype == dtype
            error = jnp.linalg.norm((found.astype(float) - wide[name]).ravel())
            assert error < 0.2 * jnp.linalg.norm(wide[name].ravel())
    kept = {x.dtype for x in jax.tree.leaves(state)}
    assert kept <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}


@everywhere
def test_the_phase_of_complex_gradients_is_that_of_the_updates(subject):
    phase = lambda tree: jax.tree.map(lambda x: x.astype(complex) * (0.6 + 0.8j), tree)
    params = phase(subject.params[0])
    state, update = subject.tx.init(params), jax.jit(subject.tx.update)
    for step, grads in enumerate(subject.grads[0]):
        updates, state = update(phase(grads), state, params)
        assert_close(updates, phase(subject.trajectories[0][0][step]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [recipe(gs.muon), recipe(gs.soap, eps=1.0), recipe(gs.shampoo)],
    ids=["muon", "soap", "shampoo"],
)
def test_derivatives_above_the_thresholds_as_they_are(make):
    """One step: among so many eigenvalues some change places, and SOAP's next update jumps.

    And with a large eps, for the first update of Adam is a sign, whose difference is large or zero.
    """
    check_derivatives(make, large(), steps=1)


def on_matrices(rule):
    """Return what makes an optimizer of a function of stacks."""
    return lambda rate: optax.chain(
        gs.per_stack(optax.stateless(lambda stack, params: rule(stack))), optax.scale(-rate)
    )


ONE = {"kernel": (4, 3)}


def test_a_loop_that_stops_by_itself_is_found():
    halve = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) > 0.1, lambda x: x / 2, jnp.sin(x))
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        check_derivatives(on_matrices(halve), ONE)


def test_a_derivative_that_is_not_that_of_the_update_is_found():
    rule = lambda x: x * jax.lax.stop_gradient(jnp.sum(x * x))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_derivatives(on_matrices(rule), ONE)


def test_a_place_that_depends_on_the_seed_is_found():
    def rule(x):
        place = (jnp.sum(x) > 0).astype(int)
        return x + jax.lax.dynamic_slice_in_dim(x, place, 1, axis=1)

    with pytest.raises(AssertionError, match="assert"):
        check_batch(Subject(on_matrices(rule), ONE))
