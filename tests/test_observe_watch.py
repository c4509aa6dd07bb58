"""A watched optimizer does what it did, wherever it runs, and looks only when it is time."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs
from gradsmith import optimizers
from gradsmith.cli.parameters import abstract, gpt2

SHAPES = {"kernel": (16, 8), "blocks": (3, 8, 4), "bias": (8,), "head": (8, 6)}
AXES = {"blocks": gs.MatrixAxes(-2, -1, batch_axis=0)}


def tree(seed, dtype=jnp.float32, shapes=SHAPES):
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    pairs = zip(shapes.items(), keys, strict=True)
    return {name: jax.random.normal(key, shape, dtype) for (name, shape), key in pairs}


def run(tx, steps=4, params=None, grads=None):
    """Return the updates of every step and the last state."""
    params, update = tree(0) if params is None else params, jax.jit(tx.update)
    state, out = tx.init(params), []
    for step in range(1, steps + 1):
        updates, state = update(tree(step) if grads is None else grads[step - 1], state, params)
        out.append(updates)
    return out, state


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def ours(name):
    plain = name in ("mars_adamw", "ademamix")  # which take every leaf as it is
    return getattr(optimizers, name)(0.1, **({} if plain else {"axes": AXES}))


OPTAX = [
    "adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan",
    "amsgrad", "fromage", "lamb", "lars", "lion", "nadam", "nadamw", "novograd",
    "optimistic_adam_v2", "optimistic_gradient_descent", "radam", "rmsprop", "rprop", "sgd",
    "sign_sgd", "sm3", "yogi", "contrib.ademamix", "contrib.cocob", "contrib.dadapt_adamw",
    "contrib.dog", "contrib.dowg", "contrib.muon", "contrib.prodigy",
    "contrib.simplified_ademamix",
]  # fmt: skip


def theirs(name):
    make = functools.reduce(getattr, name.split("."), optax)
    parameters = inspect.signature(make).parameters.values()
    needed = [one for one in parameters if one.default is one.empty]
    return make(*(0.1 for _ in needed))


RECIPES = [name for name, made in vars(optimizers).items() if inspect.isfunction(made)]


def some_now(names, now):
    """All names; those that are not `now` are slow."""
    return [name if name in now else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_now(RECIPES, ["muon"]))
def test_a_recipe_steps_to_the_bit_as_if_nobody_looked(name):
    watched, plain = run(gs.watch(ours(name), every=2)), run(ours(name))
    assert_same_bits((watched[0], watched[1].inner_state), plain)
    assert gs.readings(watched[1])["step"] == 4


@pytest.mark.parametrize("name", some_now(OPTAX, ["adam", "lion", "sm3", "contrib.muon"]))
@pytest.mark.usefixtures("standard_promotion")
def test_an_optimizer_of_optax_steps_to_the_bit_as_if_nobody_looked(name):
    watched = run(gs.watch(theirs(name), every=2, readings=["sizes", "shares"]), steps=2)
    assert_same_bits((watched[0], watched[1].inner_state), run(theirs(name), steps=2))
    assert gs.readings(watched[1])["step"] == 2


def test_there_are_thirty():
    assert len(set(OPTAX)) >= 30


SOME = ("sizes", "directions", "shares")


def adam(every=2, readings=SOME):
    return gs.watch(gs.scale_by_adam(), every=every, readings=readings, axes=AXES)


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("every", [1, 3])
def test_readings_are_made_in_their_steps_and_in_no_other(every):
    seen = []

    def tell(step):
        jax.debug.callback(lambda number: seen.append(int(number)), step.number)
        return {"number": step.number}

    update = jax.jit((tx := gs.watch(optax.sgd(0.1), every=every, readings=[tell])).update)
    state, told = tx.init(tree(0)), []
    for step in range(7):
        _, state = update(tree(step), state)
        told.append(int(gs.readings(state)["number"]))
    jax.effects_barrier()
    assert seen == list(range(every, 8, every))
    assert told == [step - step % every for step in range(1, 8)]


def test_a_memory_is_of_the_step_before_or_of_the_reading_before():
    number = lambda step: {"n": step.number}
    both = [
        gs.Reading(lambda step: {"before": step.kept["n"]}, number, keeps_before=True),
        gs.Reading(lambda step: {"last": step.kept["n"]}, number),
    ]
    _, state = run(gs.watch(optax.sgd(0.1), every=3, readings=both), steps=7)
    assert {name: int(x) for name, x in gs.readings(state).items()} == {
        "step": 6,
        "before": 5,
        "last": 3,
    }


def test_it_may_be_scanned_and_its_state_given_away():
    tx, params = adam(), tree(0)

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state, grads):
        return jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], state, grads)

    grads = jax.tree.map(lambda *x: jnp.stack(x), *map(tree, range(1, 5)))
    state, _ = steps(tx.init(params), grads)
    assert_close(gs.readings(state), gs.readings(run(tx)[1]))


def test_it_may_be_mapped():
    tx, seeds = adam(), [0, 5]
    stacked = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    params = stacked([tree(seed) for seed in seeds])
    state, update = jax.vmap(tx.init)(params), jax.jit(jax.vmap(tx.update))
    for step in (1, 2):
        _, state = update(stacked([tree(seed + step) for seed in seeds]), state, params)
    found = gs.readings(state)
    for index, seed in enumerate(seeds):
        _, alone = run(tx, 2, tree(seed), [tree(seed + 1), tree(seed + 2)])
        assert_close({name: x[index] for name, x in found.items()}, gs.readings(alone))


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=str)
def test_on_a_mesh_it_reads_what_it_reads_without(kind):
    shapes = {"kernel": (16, 8), "wide": (64, 48), "bias": (8,)}
    tx = gs.watch(gs.muon(0.02, placement="replicated"), every=2)
    params, grads = tree(0, shapes=shapes), [tree(step, shapes=shapes) for step in (1, 2)]
    plain, expected = run(tx, 2, params, grads)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    put = lambda tree: jax.device_put(tree, NamedSharding(mesh, P("x")))
    with jax.set_mesh(mesh):
        homes = gs.state_shardings(tx, put(params))
        found, state = run(tx, 2, put(params), [put(g) for g in grads])
        direction, *_ = homes.inner_state.inner_states["matrices"].inner_state
        assert direction[0].momentum["wide"].spec == P("x")
        assert all(home.spec == P() for home in jax.tree.leaves((homes.readings, homes.kept)))
        assert all(x.sharding.is_fully_replicated for x in gs.readings(state).values())
    assert_close(jax.device_get(gs.readings(state)), gs.readings(expected))
    for one, other in zip(found, plain, strict=True):
        for name in shapes:
            np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_within_shard_map_a_reading_is_the_mean_over_devices():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    tx = gs.watch(optax.sgd(0.5), every=1, readings=["sizes"])
    grads = {"w": jnp.arange(16.0)}
    state = tx.init({"w": jnp.ones(2)})
    update = jax.shard_map(tx.update, mesh=mesh, in_specs=(P("x"), P()), out_specs=(P("x"), P()))
    _, state = jax.jit(update)(grads, state)
    rms = np.sqrt(np.mean(np.arange(16.0).reshape(8, 2) ** 2, axis=1))
    np.testing.assert_allclose(gs.readings(state)["w/gradient_rms"], rms.mean(), rtol=1e-6)


def test_it_is_found_at_any_depth_and_in_any_wrapper(standard_promotion):
    _, expected = run(adam())
    make = lambda rate: optax.chain(optax.identity(), adam(), optax.scale(rate))
    injected = optax.inject_hyperparams(make)(0.5)
    assert_close(gs.readings(run(injected)[1]), gs.readings(expected))
    twice = optax.MultiSteps(injected, 2).gradient_transformation()
    halves = [tree(step) for step in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert_close(gs.readings(run(twice, 8, grads=halves)[1]), gs.readings(expected))
    around = gs.watch(optax.MultiSteps(gs.scale_by_adam(), 2).gradient_transformation(), every=8)
    assert gs.readings(run(around, 8)[1])["step"] == 8


def test_of_several_the_names_say_which():
    tx = optax.chain(adam(1, ["shares"]), gs.watch(optax.scale(-0.1), every=2, readings=["sizes"]))
    found = gs.readings(run(tx, 3)[1])
    assert (found["0/step"], found["1/step"]) == (3, 2)
    assert {"0/bias/zero", "1/bias/update_rms"} < set(found)


def test_extra_arguments_go_through():
    tx = gs.watch(optax.polyak_sgd(), every=1, readings=["sizes"])
    found, _ = tx.update(tree(1), tx.init(tree(0)), tree(0), value=jnp.float32(2.0))
    plain, _ = optax.polyak_sgd().update(
        tree(1), optax.polyak_sgd().init(tree(0)), tree(0), value=jnp.float32(2.0)
    )
    assert_same_bits(found, plain)


def test_what_is_not_given_is_nan_and_what_is_masked_stays_out():
    tx = adam(1)
    state = tx.init(tree(0))
    grads = {**tree(1), "head": None}
    _, state = jax.jit(tx.update)(tree(1), state)
    found = gs.readings(state)
    assert jnp.isnan(found["bias/update_ratio"])
    assert found["bias/update_rms"] > 0
    masked = gs.watch(optax.sgd(0.1), every=1, readings=SOME)
    _, state = masked.update(grads, masked.init(tree(0)), tree(0))
    assert jnp.isnan(gs.readings(state)["head/update_rms"])
    assert gs.readings(state)["bias/update_rms"] > 0


def test_narrow_parameters_are_read_in_float32():
    grads = {"w": jnp.full((64, 64), 300.0, jnp.float16)}
    tx = gs.watch(optax.identity(), every=1, readings=SOME)
    _, state = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose(gs.readings(state)["w/gradient_norm"], 300 * 64)


def test_wide_gradients_of_narrow_parameters_are_read():
    """The state keeps what a reading compares with in the dtype that `init` saw."""
    narrow, wide = tree(0, jnp.bfloat16), tree(1)
    tx = adam(1)
    updates, state = tx.update(wide, tx.init(narrow), narrow)
    plain = gs.scale_by_adam()
    assert_same_bits(updates, plain.update(wide, plain.init(narrow), narrow)[0])
    again = tx.update(wide, state, narrow)[1]
    shapes = lambda state: jax.tree.map(lambda x: (x.shape, x.dtype), (state.readings, state.kept))
    assert shapes(again) == shapes(tx.init(narrow))
    assert gs.readings(again)["kernel/cosine_before"] > 0.9


def test_map_params_passes_over_the_readings():
    tx = adam()
    doubled = optax.tree.map_params(tx, lambda x: 2 * x, tx.init(tree(0)))
    assert jax.tree.structure(doubled) == jax.tree.structure(tx.init(tree(0)))


def test_leaves_whose_axes_nobody_tells_are_read_as_vectors():
    tx = gs.watch(optax.sgd(0.1), every=1)
    found = gs.readings(tx.init({"blocks": jnp.ones((3, 8, 4)), "kernel": jnp.ones((8, 4))}))
    assert found["blocks/update_norm"].shape == ()
    assert "kernel/update_spectrum" in found
    assert "blocks/update_spectrum" not in found


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gs.watch(optax.sgd(0.1), every=0), ValueError, "watch needs every >= 1"),
        (
            lambda: gs.watch(optax.sgd(0.1), readings=["size"]),
            ValueError,
            "no group of readings is called 'size'; there are sizes, directions",
        ),
        (
            lambda: gs.watch(optax.sgd(0.1), readings="sizes"),  # pyright: ignore
            TypeError,
            r"readings are several: write readings=\('sizes',\)",
        ),
        (
            lambda: gs.watch(optax.sgd(0.1), readings=[lambda step: step.number]).init(tree(0)),
            TypeError,
            "returns arrays by name",
        ),
        (
            lambda: gs.watch(optax.sgd(0.1), readings=["sizes", "sizes"]).init(tree(0)),
            ValueError,
            "two readings are called",
        ),
        (lambda: gs.readings(optax.sgd(0.1).init(tree(0))), ValueError, "gradsmith.watch"),
    ],
)
def test_what_cannot_be_read_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.slow
def test_watching_muon_of_gpt2_costs_a_fiftieth_of_its_update_and_a_hundredth_of_its_state():
    params = abstract(gpt2, "gpt2")
    plain = gs.update_cost(gs.muon(0.02), params)
    watched = gs.update_cost(gs.watch(gs.muon(0.02), every=50), params)
    assert watched.flops_exact
    assert 0 < (watched.flops - plain.flops) / 50 <= 0.02 * plain.flops
    assert watched.state - plain.state <= 0.01 * plain.state
