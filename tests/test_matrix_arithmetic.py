"""Narrow arithmetic keeps every schedule in its band, in every form that a plan may choose.

Operands are rounded on the CPU as accelerators round them. The oracle is the float64 decomposition
and the scalar function of the schedule; singular values above 0.0015 of the norm have a band.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian, hard_stack, reached, scalar_map
from overridden import overridden

import gradsmith as gs
from gradsmith.matrix import SCHEDULES, polar_express, symmetric
from gradsmith.matrix.polar import gram_newton_schulz
from gradsmith.matrix.polar.gram_newton_schulz import GramNewtonSchulz
from gradsmith.matrix.polar.newton_schulz import NewtonSchulz
from gradsmith.matrix.polar.plan import Request
from gradsmith.xla.arithmetic import arithmetics

NARROW = ("bfloat16", "float16", "tfloat32", "bfloat16_3x")
FORMS = (NewtonSchulz, GramNewtonSchulz)
MADE = {f"polar_express({steps})": polar_express(steps, 1.5e-3) for steps in (4, 5, 6)}
SHIPPED = {name: s for name, s in SCHEDULES.items() if s.normalizer == "frobenius"}
ABOVE = 1.5e-3


def twins(m, n):
    """Two large rows that are nearly the same, and small noise."""
    x = 1e-3 * gaussian(m, n) / np.sqrt(n)
    x[:2] = gaussian(1, n, seed=1) / np.sqrt(n) + 1e-3 * x[:2]
    return x


def noisy_rank_one(m, n):
    return np.outer(gaussian(m, seed=1), gaussian(n, seed=2)) / np.sqrt(m * n) + 1e-2 * gaussian(
        m, n, seed=3
    ) / np.sqrt(n)


def hostile(m, n):
    return np.concatenate([hard_stack(m, n), twins(m, n)[None], noisy_rank_one(m, n)[None]])


def only(precision):
    (arithmetic,) = arithmetics(precision)
    return arithmetic


def excess(schedule, x, out):
    """How far outside the band the worst singular value of a stack of results is."""
    low, high, worst = np.inf, 0.0, 0.0
    relative = [np.linalg.svd(one / np.linalg.norm(one), compute_uv=False) for one in x]
    for values in relative:
        image = scalar_map(schedule.coefficients, values / schedule.slack)
        low, high = min(low, image[values > ABOVE].min()), max(high, image.max())
    for values, result in zip(relative, np.asarray(out, np.float64), strict=True):
        assert np.isfinite(result).all()
        got = np.linalg.svd(result, compute_uv=False)
        worst = max(worst, low - got[np.sum(values > ABOVE) - 1], got[0] - high)
    return worst


X = hostile(48, 160)


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("name", [*SHIPPED, *MADE])
def test_no_singular_value_leaves_the_band(name, form, precision):
    schedule = {**SHIPPED, **MADE}[name]
    out = form(schedule, arithmetic=only(precision)).run(jnp.asarray(X, jnp.float32))
    assert excess(schedule, X, out) < 0.03


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("shape", [(160, 48), (96, 96)], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_nor_of_tall_and_square_matrices(form, shape, precision):
    x = hostile(*sorted(shape))
    x = x.mT if shape[0] > shape[1] else x
    out = form(SCHEDULES["keller"], arithmetic=only(precision)).run(jnp.asarray(x, jnp.float32))
    assert excess(SCHEDULES["keller"], x, out) < 0.03


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_nor_of_narrow_matrices(form, dtype):
    rounded = jnp.asarray(X, dtype)
    x = np.asarray(rounded, np.float64)
    out = form(SCHEDULES["keller"], arithmetic=only("bfloat16")).run(rounded)
    assert out.dtype == dtype
    assert excess(SCHEDULES["keller"], x, out.astype(jnp.float32)) < 0.03


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_any_scale_gives_the_same(form, precision, scale):
    """Up to what another rounding of the same matrix does."""
    way = form(SCHEDULES["keller"], arithmetic=only(precision))
    x = jnp.asarray(X[:, :12], jnp.float32)
    assert excess(SCHEDULES["keller"], X[:, :12], way.run(x * scale)) < 0.03
    zero = way.run(jnp.zeros((3, 5)))
    np.testing.assert_array_equal(zero, 0.0)


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("max_error", [0.5, 0.32, 0.11, 0.07])
def test_max_error_counts_the_error_of_the_arithmetic(max_error, precision):
    for shape in ((48, 160), (64, 64)):
        x = hostile(*shape)
        out = gs.matrix.orthogonalize(
            jnp.asarray(x, jnp.float32), max_error=max_error, precision=precision
        )
        for values in reached(x, out, above=ABOVE):
            assert np.abs(values - 1).max() <= max_error


def test_keller_restarts_once_in_bfloat16_after_the_third_step():
    lengths = lambda precision: [
        len(part)
        for part in GramNewtonSchulz(SCHEDULES["keller"], arithmetic=only(precision)).segments
    ]
    assert lengths("bfloat16") == [3, 2]
    assert lengths("tfloat32") == lengths("float16") == [4, 1]
    assert lengths("float32") == [5]


def test_without_restarts_the_gram_form_leaves_the_band(monkeypatch):
    monkeypatch.setattr(gram_newton_schulz, "segments", lambda triples, *_: [tuple(triples)])
    way = GramNewtonSchulz(SCHEDULES["polar_express"], arithmetic=only("bfloat16"))
    x = jnp.asarray(X, jnp.float32)
    with pytest.raises(AssertionError):
        assert excess(SCHEDULES["polar_express"], X, way.run(x)) < 0.3


def test_with_the_identity_among_what_is_rounded_it_does_too(monkeypatch):
    """The same restarts are not enough: they rely on what is not rounded."""
    zero = lambda x: jnp.zeros((*x.shape[:-2], 1, 1))
    monkeypatch.setattr(symmetric, "_off_identity", lambda x: (zero(x), x))
    way = GramNewtonSchulz(SCHEDULES["keller"], arithmetic=only("tfloat32"))
    with pytest.raises(AssertionError):
        assert excess(SCHEDULES["keller"], X, way.run(jnp.asarray(X, jnp.float32))) < 0.03


def large_rows(m, n, count):
    """A few rows that are nearly parallel and much larger than the others."""
    rng = np.random.default_rng(m)
    stack = np.zeros((count, m, n))
    for x in stack:
        if rng.random() < 0.7:
            x += 10 ** rng.uniform(-4, -1) * rng.standard_normal((m, n)) / np.sqrt(n)
        direction = rng.standard_normal(n) / np.sqrt(n)
        for row in rng.permutation(m)[: rng.integers(2, 5)]:
            noise = 10 ** rng.uniform(-2.5, -0.5) * rng.standard_normal(n) / np.sqrt(n)
            x[row] = rng.choice([-1, 1]) * rng.uniform(0.3, 1) * direction + noise
    return stack


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "schedule",
    [
        *(SCHEDULES[name] for name in ("keller", "polar_express", "polar_express_8")),
        polar_express(6, ABOVE),
        *(polar_express(steps, ABOVE, safety=1.1) for steps in (5, 7)),
    ],
    ids=lambda schedule: f"{schedule.name} {schedule.slack}",
)
def test_a_few_large_rows_stay_near_the_band(schedule, precision):
    way = GramNewtonSchulz(schedule, arithmetic=only(precision))
    out = way.run(jnp.asarray(large_rows(40, 96, 1000), jnp.float32))
    largest = np.linalg.norm(out, ord=2, axis=(-2, -1)).max()
    assert largest < schedule.band[1] + gram_newton_schulz.BORNE


def test_few_rows_are_iterated_on_themselves():
    x, small = large_rows(8, 16, 400), Request(precision="bfloat16").plan(8, 1024, jnp.float32)
    assert small.method == "newton_schulz"
    out = gs.matrix.orthogonalize(jnp.asarray(x, jnp.float32), precision="bfloat16")
    assert np.linalg.norm(out, ord=2, axis=(-2, -1)).max() < SCHEDULES["keller"].band[1] + 0.03


def test_longer_segments_let_a_few_large_rows_explode(monkeypatch):
    """So the rule is needed: with two steps at once a minimax schedule is beyond its safety."""
    schedule, x = SCHEDULES["polar_express"], jnp.asarray(large_rows(32, 48, 400), jnp.float32)
    cut = lambda triples, *_: (triples[:2], triples[2:3], triples[3:])
    monkeypatch.setattr(gram_newton_schulz, "segments", cut)
    out = GramNewtonSchulz(schedule, arithmetic=only("bfloat16")).run(x)
    assert np.linalg.norm(out, ord=2, axis=(-2, -1)).max() > 10


def test_rounding_moves_the_result_and_not_far():
    x = jnp.asarray(gaussian(48, 160), jnp.float32)
    full, narrow = gs.matrix.orthogonalize(x), gs.matrix.orthogonalize(x, precision="bfloat16")
    distance = jnp.linalg.norm(full - narrow) / jnp.linalg.norm(full)
    assert 1e-4 < distance < 0.05


@pytest.mark.parametrize("shape", [(3, 6, 10), (3, 10, 6), (1, 6, 10)], ids=str)
@pytest.mark.parametrize("chunk_bytes", [1, 10**9])
def test_chunks_change_nothing_but_where_it_is_rounded(shape, chunk_bytes):
    x = jnp.asarray(gaussian(*shape), jnp.float32)
    lies_there = x.astype(jnp.bfloat16).astype(jnp.float32) if chunk_bytes == 1 else x
    whole = gs.matrix.orthogonalize(lies_there, precision="bfloat16")
    rule = gs.polar_factor(precision="bfloat16")
    with overridden(chunk_bytes=chunk_bytes):
        out, _ = rule.update(x, rule.init(x))
    np.testing.assert_allclose(out, whole, atol=1e-2)


def test_matrices_in_chunks_lie_in_memory_as_they_are_multiplied():
    """Their copies there are of bfloat16, before and after; those that fit are not rounded."""
    tx = gs.orthogonalize(axes=gs.MatrixAxes(batch_axis=0))
    with gs.target("tpu"):
        for count, rounded in ((1, False), (2, True)):
            grads = jax.ShapeDtypeStruct((count, 768, 3072), jnp.float32)
            state = jax.eval_shape(tx.init, {"a": grads})
            lowered = jax.jit(tx.update).trace({"a": grads}, state)
            text = lowered.lower(lowering_platforms=("tpu",)).as_text()
            kept = f"tensor<{count}x768x3072xbf16>"
            assert (f"(tensor<{count}x768x3072xf32>) -> {kept}" in text) == rounded
            assert (f"({kept}) -> tensor<{count}x768x3072xf32>" in text) == rounded


def test_a_tree_gets_what_its_matrices_get():
    grads = {
        name: jnp.asarray(gaussian(*s), jnp.float32)
        for name, s in {"a": (6, 9), "b": (9, 6), "c": (6, 6)}.items()
    }
    tx = gs.orthogonalize(precision="bfloat16", postprocess=gs.match_rms())
    updates, _ = tx.update(grads, tx.init(grads))
    for name, x in grads.items():
        expected = (
            0.2
            * np.sqrt(9 if name != "c" else 6)
            * gs.matrix.orthogonalize(x, precision="bfloat16")
        )
        np.testing.assert_allclose(updates[name], expected, atol=1e-2)


def test_a_state_made_for_one_target_is_good_for_another():
    grads = {"a": jnp.ones((6, 9)), "b": jnp.ones((9, 6))}
    tx = gs.muon(0.1)
    state = tx.init(grads)
    with gs.target("tpu"):
        like = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
        _, after = jax.eval_shape(tx.update, grads, state, grads)
        assert like(after) == like(state) == like(jax.eval_shape(tx.init, grads))
