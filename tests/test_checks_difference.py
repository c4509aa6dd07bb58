"""`diff` names planted differences rightly, and calls nothing different that is the same."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs
from gradsmith.checks import Subject, assert_same_optimizer, diff
from gradsmith.checks.difference import OptimizersDifferError, TorchSide
from gradsmith.checks.difference.parting import parting

MATRICES = {"up": {"kernel": jnp.zeros((6, 10))}, "down": {"kernel": jnp.zeros((10, 5))}}
RAMP = optax.linear_schedule(0.0, 0.1, 10)


def factory(make, **defaults):
    """A factory of which nothing but the rate is known."""
    rate = defaults.get("rate", 0.01)

    def second(learning_rate=rate):
        return make(learning_rate)

    return second


def by_hand(
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    factor=1.0,
    debias=(True, True),
    place="outside",
    decay=0.0,
    coupled=0.0,
):
    """Adam, written down once more, with what people get wrong."""

    def make(rate):
        def init(params):
            zeros = jax.tree.map(jnp.zeros_like, params)
            return 0, zeros, zeros

        def update(grads, state, params):
            count, mean, square = state
            count = count + 1
            grads = jax.tree.map(lambda g, p: g + coupled * p, grads, params)
            mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, mean, grads)
            square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, square, grads)
            c1 = 1 - b1**count if debias[0] else 1.0
            c2 = 1 - b2**count if debias[1] else 1.0

            def step(m, v, p):
                if place == "before debiasing":
                    direction = (m / c1) / ((jnp.sqrt(v) + eps) / jnp.sqrt(c2))
                elif place == "inside":
                    direction = (m / c1) / jnp.sqrt(v / c2 + eps)
                else:
                    direction = (m / c1) / (jnp.sqrt(v / c2) + eps)
                return -rate * (factor * direction + decay * p)

            return jax.tree.map(step, mean, square, params), (count, mean, square)

        return optax.GradientTransformation(init, update)

    return factory(make)


def polar(rate, scale=lambda m, n: 1.0, beta=0.95, look_ahead=False):
    """Muon by singular value decomposition, on matrices alone."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(grads, state, params=None):
        state = jax.tree.map(lambda m, g: beta * m + (1 - beta) * g, state, grads)
        ahead = lambda m, g: beta * m + (1 - beta) * g if look_ahead else m

        def step(m, g):
            u, _, v = jnp.linalg.svd(ahead(m, g), full_matrices=False)
            return -rate * scale(*g.shape) * u @ v

        return jax.tree.map(step, state, grads), state

    return optax.GradientTransformation(init, update)


def rows(axis):
    """Momentum over the norms of rows or columns."""

    def update(grads, state, params=None):
        return jax.tree.map(
            lambda g: g / jnp.linalg.norm(g, axis=axis, keepdims=True), grads
        ), state

    return optax.GradientTransformation(lambda params: (), update)


def split(**groups):
    """The group `embed` for the embedding, `rest` for all other leaves."""
    label = lambda path, _: "embed" if "embed" in jax.tree_util.keystr(path) else "rest"
    return optax.partition(groups, lambda p: jax.tree_util.tree_map_with_path(label, p))


aspect = lambda m, n: max(1, n / m) ** 0.5
momentum = lambda rate: optax.sgd(rate, 0.9)
clip = optax.clip_by_global_norm(0.5)
clip_each = optax.clip(0.05)

PLANTED = {
    # name: first, second, the kind that is named, params
    "sign": (optax.adam, by_hand(factor=-1.0), "sign", None),
    "half": (optax.adam, by_hand(factor=0.5), "constant factor", None),
    "no debiasing of the mean": (
        optax.adam,
        by_hand(debias=(False, True)),
        "bias correction",
        None,
    ),
    "no debiasing of the square": (
        optax.adam,
        by_hand(debias=(True, False)),
        "bias correction",
        None,
    ),
    "no debiasing": (optax.adam, by_hand(debias=(False, False)), "bias correction", None),
    "b1": (optax.adam, by_hand(b1=0.8), "argument b1", None),
    "b2": (optax.adam, by_hand(b2=0.95), "argument b2", None),
    "eps, of an argument": (optax.adam, by_hand(eps=1e-6), "argument eps", None),
    "eps inside": (by_hand(), by_hand(place="inside", eps=1e-12), "epsilon", None),
    "eps before debiasing": (by_hand(), by_hand(place="before debiasing"), "epsilon", None),
    "eps, of no argument": (by_hand(), by_hand(eps=1e-6), "epsilon", None),
    "decoupled decay": (optax.adam, by_hand(decay=0.1), "decoupled decay", None),
    "coupled decay": (optax.adam, by_hand(coupled=0.01), "coupled decay", None),
    "coupled, not decoupled": (
        lambda learning_rate=0.01: optax.adamw(learning_rate, weight_decay=0.01),
        by_hand(coupled=0.01),
        "coupled decay and decoupled decay",
        None,
    ),
    "nesterov's Adam": (
        optax.adam,
        factory(lambda rate: optax.adam(rate, nesterov=True)),
        "argument nesterov",
        None,
    ),
    "a schedule one step ahead": (
        Subject("adam", optax.adam, {"learning_rate": RAMP}),
        factory(lambda rate: optax.adam(lambda t: RAMP(t + 1))),
        "schedule",
        None,
    ),
    "a schedule one step behind": (
        Subject("adam", optax.adam, {"learning_rate": RAMP}),
        factory(lambda rate: optax.adam(lambda t: RAMP(jnp.maximum(t - 1, 0)))),
        "schedule",
        None,
    ),
    "one leaf is frozen": (
        optax.adam(0.1),
        split(embed=optax.set_to_zero(), rest=optax.adam(0.1)),
        "another optimizer",
        None,
    ),
    "one leaf goes to another": (
        optax.adam(0.1),
        split(embed=optax.sgd(0.1), rest=optax.adam(0.1)),
        "another optimizer",
        None,
    ),
    "an average for a sum": (
        factory(momentum),
        factory(lambda rate: optax.chain(optax.ema(0.9, debias=False), optax.scale(-rate))),
        "1 - beta",
        None,
    ),
    "a debiased average": (
        factory(lambda rate: optax.chain(optax.ema(0.9), optax.scale(-rate))),
        factory(lambda rate: optax.chain(optax.ema(0.9, debias=False), optax.scale(-rate))),
        "bias correction",
        None,
    ),
    "look-ahead": (
        factory(momentum),
        factory(lambda rate: optax.sgd(rate, 0.9, nesterov=True)),
        "look-ahead",
        None,
    ),
    "clipped behind, by norm": (
        factory(lambda rate: optax.chain(clip, momentum(rate))),
        factory(lambda rate: optax.chain(optax.trace(0.9), clip, optax.scale(-rate))),
        "clipping order",
        None,
    ),
    "clipped behind, by value": (
        factory(lambda rate: optax.chain(clip_each, momentum(rate))),
        factory(lambda rate: optax.chain(optax.trace(0.9), clip_each, optax.scale(-rate))),
        "clipping order",
        None,
    ),
    "not clipped": (
        factory(lambda rate: optax.chain(clip, momentum(rate))),
        factory(momentum),
        "clipping",
        None,
    ),
    "the scale of a shape": (
        factory(lambda rate: polar(rate, aspect)),
        factory(polar),
        "shape factor",
        MATRICES,
    ),
    "another scale of a shape": (
        factory(lambda rate: polar(rate, aspect)),
        factory(lambda rate: polar(rate, lambda m, n: 0.2 * max(m, n) ** 0.5)),
        "shape factor",
        MATRICES,
    ),
    "the scale of the other side": (
        factory(lambda rate: polar(rate, aspect)),
        factory(lambda rate: polar(rate, lambda m, n: aspect(n, m))),
        "shape factor",
        MATRICES,
    ),
    "look-ahead of a polar factor": (
        factory(polar),
        factory(lambda rate: polar(rate, look_ahead=True)),
        "look-ahead",
        MATRICES,
    ),
    "rows for columns": (rows(-1), rows(-2), "transpose", MATRICES),
    "Adam for Muon": (factory(polar), optax.adam, "another optimizer", MATRICES),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_named(name):
    first, second, kind, params = PLANTED[name]
    found = diff(first, second, params=params)
    assert not found.equal
    assert [one.kind for one in found.findings] == [kind], found
    assert not found.unexplained
    assert all(one.left <= 1e-3 for one in found.findings)
    backwards = diff(second, first, params=params)
    assert not backwards.unexplained, backwards


def test_a_factor_of_a_shape_is_written_out():
    first, second, _, params = PLANTED["another scale of a shape"]
    says = diff(first, second, params=params).findings[0].says
    assert "0.2 sqrt(max(rows, columns)) / sqrt(max(1, columns / rows)) times as large" in says


def test_torch_is_a_guest():
    torch = pytest.importorskip("torch")
    theirs = TorchSide(torch.optim.AdamW, "AdamW", lr=0.01, weight_decay=0.1)
    assert diff(theirs, optax.adamw(0.01, weight_decay=0.1)).equal
    assert diff(theirs, optax.adamw(0.02, weight_decay=0.1)).findings[0].kind == "constant factor"
    muon = TorchSide(torch.optim.Muon, "Muon", lr=0.02)
    ours = gs.muon(0.02, eps=1e-7, weight_decay=0.1)
    assert diff(muon, ours, params={"0": {"weight": jnp.zeros((16, 8))}}).equal


def test_what_nothing_explains_is_not_explained():
    found = diff(optax.adam, optax.lion, params={"w": jnp.zeros((4, 3))})
    assert not found.equal
    assert found.findings == ()
    assert found.unexplained == ("w",)
    assert "nothing that is known explains w" in str(found)


def test_two_differences_are_told_a_leaf_at_a_time():
    second = split(embed=optax.adam(0.2), rest=optax.adam(0.1, b2=0.95))
    found = diff(Subject("adam", optax.adam, {"learning_rate": 0.1}), second)
    told = {one.kind: one.leaves for one in found.findings}
    assert told["constant factor"] == ("embed/embedding",)
    assert len(told["argument b2"]) == 7


def test_a_tall_matrix_with_decay_is_not_taken_for_muon():
    """Random signs in a tall matrix have singular values that are much alike."""
    params = {"w": jnp.zeros((8, 3))}
    found = diff(optax.adam(0.1), optax.adamw(0.1, weight_decay=0.1), params=params)
    assert [one.kind for one in found.findings] == ["decoupled decay"]


SMALL_TREE = {"w": jnp.zeros((6, 4)), "b": jnp.zeros(5)}
decayed = lambda rate: optax.chain(
    optax.add_decayed_weights(0.01), optax.sgd(rate, 0.9, nesterov=True)
)
PAIRS = {
    # the two kinds that are named: first, second, params
    "constant factor and decoupled decay": (optax.adam, by_hand(factor=0.5, decay=0.1), SMALL_TREE),
    "bias correction and decoupled decay": (
        optax.adam,
        by_hand(debias=(False, True), decay=0.1),
        SMALL_TREE,
    ),
    "bias correction and constant factor": (
        optax.adam,
        by_hand(debias=(True, False), factor=3.0),
        SMALL_TREE,
    ),
    "shape factor and decoupled decay": (
        factory(polar),
        factory(lambda rate: optax.chain(polar(rate, aspect), optax.add_decayed_weights(-0.001))),
        MATRICES,
    ),
    "coupled decay and constant factor": (
        optax.adam,
        by_hand(factor=0.5, coupled=0.01),
        SMALL_TREE,
    ),
    "argument b1 and argument b2": (optax.adam, by_hand(b1=0.8, b2=0.95), SMALL_TREE),
    "coupled decay and argument b2": (optax.adam, by_hand(b2=0.95, coupled=0.01), SMALL_TREE),
    "look-ahead and coupled decay": (factory(momentum), factory(decayed), SMALL_TREE),
    "epsilon and constant factor": (by_hand(), by_hand(eps=1e-5, factor=2.0), SMALL_TREE),
    "epsilon and decoupled decay": (
        optax.adam(0.1),
        optax.adamw(0.1, eps=1e-3, weight_decay=0.1),
        SMALL_TREE,
    ),
}


@pytest.mark.parametrize("kinds", PAIRS)
def test_two_differences_in_one_leaf_are_taken_apart(kinds):
    first, second, params = PAIRS[kinds]
    found = diff(first, second, params=params)
    assert [one.kind for one in found.findings] == [kinds], found
    assert not found.unexplained
    assert found.findings[0].left <= 1e-3


def test_a_line_is_not_taken_for_a_bias_correction_with_a_factor():
    warm = lambda rate: optax.adam(lambda t: rate * (t + 1) / 24)
    found = diff(optax.adam, factory(warm), params=SMALL_TREE)
    assert [one.kind for one in found.findings] == ["factor by step"]


SAME = {
    "adam and adam": (optax.adam(0.1), optax.adam(0.1)),
    "adam and its parts": (
        optax.adam(0.1),
        optax.chain(gs.scale_by_adam(), optax.scale_by_learning_rate(0.1)),
    ),
    "adam by hand": (optax.adam, by_hand()),
    "adamw by hand": (
        lambda learning_rate=0.01: optax.adamw(learning_rate, weight_decay=0.1),
        by_hand(decay=0.1),
    ),
    "no momentum": (optax.sgd(0.1), optax.sgd(0.1, momentum=0.0)),
    "an average that is scaled": (
        optax.sgd(0.1, 0.5),
        optax.chain(optax.ema(0.5, debias=False), optax.scale(-0.2)),
    ),
    "a sum of two": (optax.scale(0.3), optax.chain(optax.scale(0.1), optax.scale(3.0))),
    "momentum": (
        optax.trace(0.9),
        gs.momentum(0.9, "heavy_ball"),
    ),
    "nesterov": (optax.trace(0.9, nesterov=True), gs.momentum(0.9, "heavy_ball_nesterov")),
    "decay": (optax.add_decayed_weights(0.1), gs.decay_weights(0.1)),
    "rmsprop": (optax.rmsprop(0.1), optax.rmsprop(0.1)),
    "lion": (optax.lion(0.1), optax.lion(0.1)),
    "yogi": (optax.yogi(0.1), optax.yogi(0.1)),
    "adagrad": (optax.adagrad(0.1), optax.adagrad(0.1)),
    "adan": (optax.adan(0.1), optax.adan(0.1)),
    "noise with a key": (optax.noisy_sgd(0.1, key=3), optax.noisy_sgd(0.1, key=3)),
}
SMALL = {"kernel": jnp.zeros((6, 10)), "bias": jnp.zeros(10)}
RECIPES = {
    name: getattr(gs, name)
    for name in (
        "muon", "normuon", "muoneq", "adamuon", "namo", "muonh", "adamh", "scion", "kron",
        "soap", "soap_muon", "dion2", "shampoo", "mars_muon", "mars_adamw", "ademamix", "asgo",
    )
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_is_not_called_different(name):
    found = diff(*SAME[name])
    assert found.equal, found
    assert found.findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_same_as_itself(name, dtype):
    assert_same_optimizer(RECIPES[name](0.01), RECIPES[name](0.01), params=SMALL, dtype=dtype)


def test_optax_muon_is_ours_in_the_row_of_the_migration_page():
    row = {"momentum_kind": "ema_nesterov_debiased", "eps": 1e-8}
    ours = Subject("ours", gs.muon, row)
    found = diff(optax.contrib.muon, ours, params=MATRICES)
    assert found.equal, found
    other = diff(optax.contrib.muon, gs.muon, params=MATRICES)
    assert [one.kind for one in other.findings] == ["argument momentum_kind"]


def test_a_program_that_rounds_otherwise_is_the_same():
    def reordered(rate):
        def update(grads, state, params=None):
            return jax.tree.map(lambda g: (g * 3 - g) * (-rate / 2), grads), state

        return optax.GradientTransformation(lambda params: (), update)

    assert diff(optax.sgd(0.1), reordered(0.1)).equal


def test_arithmetic_in_bfloat16_is_told_from_a_difference():
    product = np.random.default_rng(0).standard_normal((10, 10))

    def mixed(cast, factor=1.0):
        def update(grads, state, params=None):
            mix = lambda g: (cast(g) @ cast(jnp.asarray(product, g.dtype))).astype(g.dtype)
            return jax.tree.map(lambda g: factor * mix(g), grads), state

        return optax.GradientTransformation(lambda params: (), update)

    rough = lambda x: x.astype(jnp.bfloat16)
    square = {"w": jnp.zeros((6, 10))}
    assert diff(mixed(lambda x: x), mixed(rough), params=square).equal
    assert not diff(mixed(lambda x: x), mixed(rough, 1.5), params=square).equal


def test_a_counter_of_python_is_run_step_by_step():
    def counting():
        def update(grads, state, params=None):
            factor = 1.0 / float(state + 1)  # no array: it cannot be traced
            return jax.tree.map(lambda g: factor * g, grads), state + 1

        return optax.GradientTransformation(lambda params: 0, update)

    assert diff(counting(), counting()).equal
    assert diff(counting(), optax.scale(1.0)).findings[0].kind == "factor by step"


def test_the_report_is_json_and_an_assertion():
    found = diff(optax.sgd(0.1), optax.sgd(0.2))
    told = json.loads(found.to_json())
    assert told["equal"] is False
    assert told["findings"][0]["kind"] == "constant factor"
    assert told["leaves"]["norm/scale"]["step"] == 1
    with pytest.raises(OptimizersDifferError, match="2 times as large"):
        assert_same_optimizer(optax.sgd(0.1), optax.sgd(0.2))
    assert_same_optimizer(optax.sgd(0.1), optax.sgd(0.1))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"at \['count'\]; leave it out"):
        diff(optax.sgd(0.1), optax.sgd(0.1), params={"count": jnp.zeros(3, jnp.int32)})
    with pytest.raises(ValueError, match="at least one step, got steps=0"):
        diff(optax.sgd(0.1), optax.sgd(0.1), steps=0)


def test_a_leaf_parts_where_it_is_beyond_rounding():
    a = np.zeros((3, 2))
    b = np.array([[0.0, 0.1], [0.0, 0.0], [0.0, 4.0]])
    assert parting(a, b, np.array([0.2, 0.2, 0.2])) == (3, 20.0, 1.0)
    assert parting(a, b, np.array([0.2, 0.2, 5.0])) is None
    assert parting(a, np.where(b == 4, np.nan, b), np.array([0.2, 0.2, 5.0])) is not None
