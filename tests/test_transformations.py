"""Every recipe under every transformation of JAX and Optax, on both sides of every threshold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from recipe_runs import (
    FORMS,
    RATE,
    RECIPES,
    SEEDS,
    SIZES,
    STEPS,
    Subject,
    assert_close,
    large,
    recipe,
    stacked,
    subject_of,
    tree,
)

import gradsmith as gs
from gradsmith.catalogue import TECHNIQUES


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


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
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4)  # Newton's roots are inexact
    close(optax.tree.vdot(of_shift, way) + of_rate, expected)
    zero = jax.tree.map(jnp.zeros_like, way)
    forward = jax.jit(lambda way: jax.jvp(total, (zero, RATE), (way, 1.0))[1])
    close(forward(way), expected)


@everywhere
def test_derivatives_are_finite_differences(subject):
    """Of the stack alone, to compile half; a matrix by itself is in the test of large ones."""
    check_derivatives(subject.make, {k: subject.shapes[k] for k in ("blocks", "bias")})


def gathers(compiled, before=""):
    """What there is of each, or was before XLA made slices of those of one matrix."""
    text = compiled.as_text()
    return [
        max(text.count(f" {operation}("), before.count(f'"stablehlo.{operation}"('))
        for operation in ("gather", "scatter")
    ]


def check_batch(subject):
    batch = stacked(subject.params)
    state = jax.jit(jax.vmap(subject.tx.init))(batch)
    update, seen = jax.jit(jax.vmap(subject.tx.update)).lower(batch, state, batch).compile(), []
    params = subject.params[0]
    before = jax.jit(subject.tx.update).lower(params, subject.tx.init(params), params).as_text()
    for batched, alone in zip(gathers(update), gathers(subject.update, before), strict=True):
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
    """The state is float32 or wider, so that only the numbers that come and go are narrow.

    Or 8 bits, where somebody asked for it, and then as narrow for all. The second step of SOAP-Muon
    is made of signs in a basis; near zero, rounding decides them.
    """
    share = 0.4 if subject.make.func is gs.soap_muon else 0.2
    narrow = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)
    params = narrow(subject.params[0])
    state, update = subject.tx.init(params), jax.jit(subject.tx.update)
    for step, grads in enumerate(subject.grads[0]):
        updates, state = update(narrow(grads), state, params)
        wide = subject.trajectories[0][0][step]
        for name, found in updates.items():
            assert found.dtype == dtype
            error = jnp.linalg.norm((found.astype(float) - wide[name]).ravel())
            assert error < share * jnp.linalg.norm(wide[name].ravel())
    kept = {x.dtype for x in jax.tree.leaves(state)}
    assert kept <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32), jnp.dtype(jnp.int8)}


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
