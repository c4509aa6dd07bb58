"""Pairs of optimizers for `diff`: with planted differences, with none, and what makes them."""

import jax
import jax.numpy as jnp
import optax

import gradsmith as gs
from gradsmith.catalogue import TECHNIQUES
from gradsmith.checks import Subject

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
SMALL_TREE = {"w": jnp.zeros((6, 4)), "b": jnp.zeros(5)}
decayed = lambda rate: optax.chain(
    optax.add_decayed_weights(0.01), optax.sgd(rate, 0.9, nesterov=True)
)
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

UNEVEN = {
    # two differences, one of them a thousand times smaller or more; the kinds that are named
    "half, and a tiny decay": (
        optax.adam,
        by_hand(factor=0.5, decay=1e-6),
        "constant factor and decoupled decay",
    ),
    "a decay, and a factor beside one": (
        optax.adam,
        by_hand(factor=1 + 1e-6, decay=0.1),
        "constant factor and decoupled decay",
    ),
    "b1, and a factor beside one": (
        optax.adam,
        by_hand(b1=0.8, factor=1 + 1e-5),
        "argument b1 and constant factor",
    ),
    "b2, and a tiny decay": (
        optax.adam,
        by_hand(b2=0.95, decay=1e-6),
        "argument b2 and decoupled decay",
    ),
    "coupled decay, and a small epsilon": (
        optax.adam,
        by_hand(coupled=0.1, eps=1e-7),
        "coupled decay and argument eps",
    ),
    "look-ahead, and a tiny coupled decay": (
        factory(momentum),
        factory(
            lambda rate: optax.chain(
                optax.add_decayed_weights(1e-4), optax.sgd(rate, 0.9, nesterov=True)
            )
        ),
        "look-ahead and coupled decay",
    ),
    "an epsilon, and a factor beside one": (
        by_hand(),
        by_hand(eps=1e-3, factor=1 + 1e-5),
        "epsilon and constant factor",
    ),
}


def step_counted_wrong(rate):
    """Adam's debiasing with the count of the step before, and a root more."""
    adam = by_hand(debias=(False, False), coupled=0.1)(rate)

    def update(grads, state, params):
        updates, state = adam.update(grads, state, params)
        return jax.tree.map(lambda u: u / (1 - 0.9 ** (state[0] + 1)) ** 0.3, updates), state

    return optax.GradientTransformation(adam.init, update)


UNEXPLAINED = {
    # three differences, or some that diff does not know
    "no debiasing, coupled decay for decoupled": (
        lambda learning_rate: optax.adamw(learning_rate, weight_decay=0.1),
        by_hand(debias=(False, False), coupled=0.1),
    ),
    "the same, with a decay that may be left out": (
        lambda learning_rate: optax.adamw(learning_rate, weight_decay=0.1),
        lambda learning_rate, decay=0.1: by_hand(debias=(False, False), coupled=decay)(
            learning_rate
        ),
    ),
    "an odd debiasing": (optax.adam, factory(step_counted_wrong)),
    "a large epsilon, and coupled decay": (by_hand(), by_hand(eps=1e-3, coupled=0.1)),
    "Adam and Lion": (optax.adam, optax.lion),
    "Lion and signs": (factory(optax.lion), factory(optax.sign_sgd)),
    "Adam and Yogi": (factory(optax.adam), factory(optax.yogi)),
}


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
RECIPES = {one.name: one.make for one in TECHNIQUES if one.kind == "optimizer"}
