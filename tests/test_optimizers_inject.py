"""`optax.inject_hyperparams` changes numbers only: for every recipe, and for every argument of it.

It makes an array of every number, in the dtype of the parameters, and calls every function.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from matrix_oracles import unchecked_annotations

import gradsmith as gs
from gradsmith import optimizers

RECIPES = {name: f for name, f in vars(optimizers).items() if inspect.isfunction(f)}
NUMBERS = {
    "learning_rate": 0.03125,
    "momentum": 0.875,
    "eps": 0.125,
    "neuron_decay": 0.75,
    "entry_decay": 0.75,
    "radius": 3.0,
    "factor_rate": 0.25,
    "factor_decay": 0.25,
    "damping": 0.5,
    "embedding_radius": 3.0,
    "head_radius": 2.0,
    "gamma": 0.0625,
    "b1": 0.5,
    "b2": 0.75,
    "b3": 0.9375,
    "alpha": 3.0,
    "refresh_every": 1,
    "weight_decay": 0.5,
    "adam_learning_rate": 0.0625,
    "adam_b1": 0.75,
    "adam_b2": 0.625,
    "adam_eps": 0.125,
    "adam_weight_decay": 0.25,
}
"""Other than the defaults, so that they show; few binary digits, so that bfloat16 holds them."""
FIXED = {"steps": 3, "max_error": 0.4, "max_side": 5, "max_block": 5, "fraction": 0.5}
"""What decides shapes or the program."""
NO_NUMBERS = {
    "momentum_kind", "momentum_dtype", "method", "coefficients", "precision", "shape_scale",
    "placement", "factors", "side", "sides", "root", "neuron_axis", "weight_decay_mask",
    "embedding", "head", "lr_scales", "axes", "roles",
}  # fmt: skip
CASES = [
    (name, argument)
    for name, recipe in RECIPES.items()
    for argument in inspect.signature(recipe).parameters
    if argument not in NO_NUMBERS
]


def cases(arguments):
    """The cases of these arguments; `make test` runs those of one recipe."""
    marks = lambda name: () if name == "muon" else pytest.mark.slow
    return [pytest.param(*case, marks=marks(case[0])) for case in CASES if case[1] in arguments]


SHAPES = {"up": (4, 6), "down": (6, 4), "bias": (6,), "embedding": (5, 4), "head": (4, 5)}


def tree(seed, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    pairs = zip(SHAPES.items(), keys, strict=True)
    return {name: jax.random.normal(key, shape, dtype) for (name, shape), key in pairs}


def run(tx, dtype=jnp.float32, with_params=True, steps=3):
    """Return the last updates and the state of the transformation inside."""
    params = tree(0, dtype)
    state = tx.init(params)
    update = jax.jit(tx.update)
    for step in range(1, steps + 1):
        args = (params,) if with_params else ()
        updates, state = update(tree(step, dtype), state, *args)
    return updates, getattr(state, "inner_state", state)


def shapes_of(state):
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    return jax.tree.structure(state), jax.tree.leaves(
        shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def assert_the_same(injected, plain):
    (updates, state), (expected, plain_state) = injected, plain
    assert shapes_of(state) == shapes_of(plain_state)
    for name in SHAPES:
        assert updates[name].dtype == expected[name].dtype
        found, wanted = (np.asarray(x[name], np.float32) for x in (updates, expected))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5, err_msg=name)
        assert np.abs(wanted).max() > 1e-4


@functools.cache
def plain_run(name, **arguments):
    return run(RECIPES[name](**{"learning_rate": 0.1, **arguments}))


def inject(name, *injected, **arguments):
    """Return the recipe with these arguments injected and the others left alone."""
    others = set(inspect.signature(RECIPES[name]).parameters) - set(injected)
    return optax.inject_hyperparams(RECIPES[name], static_args=others)(**arguments)


def test_every_argument_is_a_number_or_fixed_or_no_number():
    assert {argument for _, argument in CASES} == set(NUMBERS) | set(FIXED)


@pytest.mark.parametrize(("name", "argument"), cases(NUMBERS))
def test_an_injected_argument_gives_what_it_gives_as_a_number(name, argument):
    number = 2 if (name, argument) == ("kron", "refresh_every") else NUMBERS[argument]
    others = {"fraction": 1.0} if name == "dion2" else {}  # the polar factor of one slice says less
    arguments = {"learning_rate": 0.1, argument: number, **others}
    injected = inject(name, argument, **arguments)
    assert list(injected.init(tree(0)).hyperparams) == [argument]
    assert_the_same(run(injected), plain_run(name, **arguments))
    is_default = inspect.signature(RECIPES[name]).parameters[argument].default == NUMBERS[argument]
    if argument not in ("learning_rate", "adam_learning_rate") and not is_default:
        default, number = (plain_run(name, **more)[0] for more in (others, arguments))
        assert any(np.any(default[leaf] != number[leaf]) for leaf in SHAPES)


@pytest.mark.parametrize(("name", "argument"), cases(FIXED))
def test_what_decides_shapes_or_the_program_is_refused_with_the_remedy(name, argument):
    injected = inject(name, argument, learning_rate=0.1, **{argument: FIXED[argument]})
    message = rf"needs the value of {argument} when it is built.*static_args=\('{argument}',\)"
    with unchecked_annotations(), pytest.raises(TypeError, match=message):
        injected.init(tree(0))
    static = optax.inject_hyperparams(RECIPES[name], static_args=(argument,))
    assert_the_same(
        run(static(0.1, **{argument: FIXED[argument]})),
        run(RECIPES[name](0.1, **{argument: FIXED[argument]})),
    )


NEED_PARAMS = {"muonh", "adamh"}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("with_params", [True, False], ids=["params", "no params"])
def test_a_recipe_may_be_injected_as_it_is(name, with_params):
    """All defaults become arrays; where nothing decays, few need the parameters."""
    with_params = with_params or name in NEED_PARAMS
    injected = optax.inject_hyperparams(RECIPES[name], hyperparam_dtype=jnp.float32)(0.1)
    assert_the_same(run(injected, with_params=with_params), plain_run(name))


@pytest.mark.parametrize("name", RECIPES)
def test_an_injected_recipe_takes_the_memory_of_a_plain_one(name):
    shapes = {"up": (256, 512), "down": (512, 256), "bias": (512,)}
    params = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in shapes.items()}

    def temporaries(tx):
        state = jax.eval_shape(tx.init, params)
        compiled = jax.jit(tx.update, donate_argnums=(0, 1)).lower(params, state, params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    injected = optax.inject_hyperparams(RECIPES[name])(0.1)
    assert temporaries(injected) <= 1.02 * temporaries(RECIPES[name](0.1)) + 4096


DECAYS = (
    "momentum",
    "neuron_decay",
    "entry_decay",
    "factor_decay",
    "b1",
    "b2",
    "b3",
    "adam_b1",
    "adam_b2",
)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(("name", "argument"), cases(DECAYS))
def test_a_decay_that_the_dtype_of_the_parameters_rounds_to_one_still_learns(name, argument, dtype):
    """0.999 in bfloat16 is 1. What it is taken for is the largest number below 1."""
    decay = 0.999 if dtype == jnp.bfloat16 else 0.9999
    assert jnp.asarray(decay, dtype) == 1
    below = 1 - float(jnp.finfo(dtype).epsneg)
    injected = run(inject(name, argument, learning_rate=0.1, **{argument: decay}), dtype)
    assert_the_same(injected, run(RECIPES[name](0.1, **{argument: below}), dtype))


def test_with_a_dtype_of_its_own_a_decay_keeps_its_digits():
    injected = optax.inject_hyperparams(gs.muon, hyperparam_dtype=jnp.float32)(0.1, momentum=0.999)
    found = run(injected, jnp.bfloat16)
    assert_the_same(found, run(gs.muon(0.1, momentum=0.999), jnp.bfloat16))


def test_a_function_that_is_called_as_a_schedule_is_refused_with_the_remedy():
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    for argument, value in (("momentum_dtype", jnp.bfloat16), ("weight_decay_mask", matrices)):
        arguments = {argument: value, "weight_decay": 0.1}
        with unchecked_annotations(), pytest.raises(TypeError, match="static_args"):
            optax.inject_hyperparams(gs.muon)(0.1, **arguments).init(tree(0))
        static = optax.inject_hyperparams(gs.muon, static_args=(argument,))
        assert_the_same(run(static(0.1, **arguments)), run(gs.muon(0.1, **arguments)))


def test_a_missing_params_is_an_error_where_a_decay_is_injected():
    injected = optax.inject_hyperparams(gs.muon)(0.1, weight_decay=0.1)
    params = tree(0)
    with pytest.raises(
        ValueError, match=r"needs the parameters: call update\(grads, state, params\)"
    ):
        injected.update(params, injected.init(params))


@pytest.mark.parametrize("name", [name for name, argument in CASES if argument == "b3"])
def test_a_schedule_means_the_same_inside_the_recipe_and_injected(name):
    real = lambda count: jnp.asarray(count, jnp.float32)
    schedules = {"b3": lambda count: 0.5 + 0.1 * real(count), "alpha": real}
    injected = inject(name, *schedules, learning_rate=0.1, **schedules)
    assert_the_same(run(injected), plain_run(name, **schedules))


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, c: jnp.where(jnp.abs(x) > c, x, c * x),
        lambda x, c: jnp.clip(x, -c, c),
        lambda x, c: jax.jit(lambda y: y * c)(x),
        lambda x, c: 2 * x * jnp.ones_like(c),
        lambda x, c: c * x * jnp.ones_like(c * x),
    ],
    ids=["where", "clip", "jit", "one like a number", "ones like an array"],
)
@pytest.mark.parametrize("jitted", [True, False])
def test_a_rule_may_call_programs_on_an_injected_number_on_a_mesh(formula, jitted):
    def make(learning_rate, number):
        rule = optax.stateless(lambda u, p: jax.tree.map(lambda x: formula(x, number), u))
        return optax.chain(gs.per_stack(rule), optax.scale(-learning_rate))

    tx = optax.inject_hyperparams(make)(0.5, 3.0)
    update = jax.jit(tx.update) if jitted else tx.update
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    kernel = jnp.arange(64.0).reshape(8, 8)
    with jax.set_mesh(mesh):
        params = {"kernel": jax.device_put(kernel, P("x"))}
        updates, _ = update(params, tx.init(params), params)
        assert updates["kernel"].sharding.spec == P("x", None)
        found = jax.device_get(updates["kernel"])
    assert found.tolist() == (-0.5 * formula(kernel, 3.0)).tolist()
