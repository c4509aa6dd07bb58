"""`diff` names planted differences rightly, and calls nothing different that is the same."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from difference_pairs import (
    MATRICES,
    PAIRS,
    PLANTED,
    RECIPES,
    SAME,
    SMALL,
    SMALL_TREE,
    UNEVEN,
    UNEXPLAINED,
    by_hand,
    factory,
    split,
)

import gradsmith as gs
from gradsmith import checks
from gradsmith.checks import Subject, assert_same_optimizer
from gradsmith.checks.difference import OptimizersDifferError, TorchSide
from gradsmith.checks.difference.ground import Ground, make_ground, shapes_of
from gradsmith.checks.difference.parting import parting, rounding
from gradsmith.checks.difference.reruns import Changed
from gradsmith.checks.difference.search import Search
from gradsmith.checks.difference.sides import JaxSide

SMALL_SHAPES = shapes_of(SMALL_TREE)
diff = functools.partial(checks.diff, limit=math.inf)  # the machine may be slow


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


MATRIX = {"0": {"weight": jnp.zeros((16, 8))}}
TORCH_ROWS = {
    # the rows of docs/migrating.md: arguments of torch's Muon, arguments of ours
    "the default": ({}, {}),
    "without Nesterov": ({"nesterov": False}, {"momentum_kind": "ema"}),
    "three steps": ({"ns_steps": 3}, {"steps": 3}),
    "no decay": ({"weight_decay": 0.0}, {"weight_decay": 0.0}),
    "match_rms_adamw": ({"adjust_lr_fn": "match_rms_adamw"}, {"shape_scale": "match_rms"}),
}


@pytest.mark.parametrize("row", TORCH_ROWS)
def test_a_row_of_the_migration_page_is_the_same_as_torch(row):
    """And no other row is, but for bfloat16, which forgives a tenth of an update."""
    torch = pytest.importorskip("torch")
    theirs, ours = TORCH_ROWS[row]
    muon = TorchSide(torch.optim.Muon, "Muon", lr=0.02, **theirs)
    make = lambda given: gs.muon(0.02, **{"eps": 1e-7, "weight_decay": 0.1} | given)
    assert diff(muon, make(ours), params=MATRIX).equal
    if row != "the default":
        assert not diff(muon, make({}), params=MATRIX).equal


def one_step(side, length):
    """What one Newton-Schulz step leaves of a gradient of rank one, of this Frobenius norm."""
    left, right = np.ones(8) / 8**0.5, np.ones(16) / 16**0.5
    gradient = length * np.outer(left, right)[None]
    (update,) = side.updates(Ground({"weight": np.zeros_like(gradient)}, {"weight": gradient}))
    return float(-left @ update[0] @ right)


STEP = lambda x: 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
PLAIN = {"eps": 0.1, "momentum": 0.0, "weight_decay": 0.0}


@pytest.mark.parametrize("length", [0.05, 0.1, 0.4])
def test_we_add_eps_to_the_norm(length):
    """A row of the migration page, as the next test is."""
    ours = JaxSide(Subject("ours", gs.muon, {"learning_rate": 1.0, "steps": 1, **PLAIN}))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        assert one_step(ours, length) == pytest.approx(STEP(length / (length + 0.1)), abs=1e-9)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.4])
def test_torch_takes_the_larger_of_the_norm_and_eps(length):
    torch = pytest.importorskip("torch")
    theirs = TorchSide(torch.optim.Muon, "Muon", lr=1.0, ns_steps=1, **PLAIN)
    assert one_step(theirs, length) == pytest.approx(STEP(length / max(length, 0.1)), abs=0.01)


def test_torch_coupled_decay_is_told_from_its_adamw():
    torch = pytest.importorskip("torch")
    theirs = TorchSide(torch.optim.Adam, "Adam", lr=0.01, weight_decay=0.01)
    found = diff(theirs, lambda learning_rate=0.01: optax.adamw(learning_rate, weight_decay=0.01))
    assert [one.kind for one in found.findings] == ["coupled decay and decoupled decay"], found


@pytest.mark.parametrize("name", UNEVEN)
def test_a_small_difference_beside_a_large_one_is_named_too(name):
    first, second, kind = UNEVEN[name]
    found = diff(first, second, params=SMALL_TREE)
    assert [one.kind for one in found.findings] == [kind], found
    assert not found.unexplained


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_nothing_is_named_where_nothing_explains(name):
    found = diff(*UNEXPLAINED[name], params=SMALL_TREE)
    assert found.findings == (), found
    assert set(found.unexplained) == {"w", "b"}
    assert "nothing that is known explains" in str(found)


def test_signs_that_turn_are_not_taken_for_rounding():
    """A coupled decay all but cancels a gradient here and there, and the first step is a sign."""
    ground = make_ground(SMALL_SHAPES, 24, 0)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        side = JaxSide(Subject("signs", by_hand(debias=(False, False), coupled=0.1)))
        updates = side.updates(ground)
        for allowed, update in zip(rounding(side, ground, updates), updates, strict=True):
            assert np.max(allowed) < 1e-9 * np.abs(update).max()


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_narrow_arithmetic_is_seen_in_the_program(dtype):
    ground = make_ground(SMALL_SHAPES, 3, 0)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        side = JaxSide(Subject("adam", optax.adam, {"mu_dtype": dtype}))
        assert side.eps(ground) == jnp.finfo(dtype or jnp.float64).eps


def test_a_factor_is_found_behind_arithmetic_in_bfloat16():
    rough = lambda rate, factor: optax.chain(
        optax.scale_by_adam(mu_dtype=jnp.bfloat16), optax.scale(-factor * rate)
    )
    found = diff(optax.adam, factory(lambda rate: rough(rate, 3.0)), params=SMALL_TREE)
    assert [one.kind for one in found.findings] == ["constant factor"]
    assert "3.0" in found.findings[0].says or "2.9" in found.findings[0].says
    assert diff(optax.adam, factory(lambda rate: rough(rate, 1.0)), params=SMALL_TREE).equal


def test_what_an_explanation_leaves_is_told():
    """Without debiasing the square, epsilon is smaller beside its root in the first steps."""
    found = diff(by_hand(), by_hand(debias=(True, False)))
    assert found.findings[0].kind == "bias correction"
    assert 1e-6 < found.findings[0].left < 1e-3
    assert "of the difference" in str(found)


def test_a_search_that_is_cut_short_says_so():
    pair = optax.adam, optax.lion
    found = diff(*pair, params={"w": jnp.zeros((4, 3))}, limit=0.0)
    assert "the search ended after 0 s" in str(found)
    assert "were not tried" in found.notes[0]
    assert not diff(*pair, params={"w": jnp.zeros((4, 3))}, limit=1e9).notes
    named = diff(optax.adam, by_hand(factor=0.5), params=SMALL_TREE, limit=0.0)
    assert named.findings[0].kind == "constant factor"  # what takes no time is found all the same
    assert named.notes == ()


def test_numbers_share_a_program():
    """One compilation serves all values of all arguments that may be traced."""
    side = JaxSide(Subject("adam", optax.adam))
    ground = make_ground(SMALL_SHAPES, 3, 0)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        for b1, b2 in ((0.8, 0.9), (0.7, 0.95)):
            built = side.built_with("b1", b1).built_with("b2", b2)
            expected = JaxSide(Subject("adam", optax.adam, {"b1": b1, "b2": b2})).updates(ground)
            for x, y in zip(built.updates(ground), expected, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-12)
    assert len(side._programs) == 1


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


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_is_not_called_different(name):
    found = diff(*SAME[name])
    assert found.equal, found
    assert found.findings == ()


def rounding_otherwise(tx):
    """The same, and the last bits of its gradients are others."""
    thirds = optax.stateless(lambda grads, _: jax.tree.map(lambda g: g / 3 * 3, grads))
    return optax.chain(thirds, tx)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_same_as_one_that_rounds_otherwise(name, dtype):
    tx = RECIPES[name]()
    found = diff(tx, rounding_otherwise(tx), params=SMALL, dtype=dtype)
    assert found.equal, found


def test_optax_muon_is_ours_in_the_row_of_the_migration_page():
    row = {"momentum_kind": "ema_nesterov_debiased", "eps": 1e-8}
    ours = Subject("ours", gs.muon, row)
    found = diff(optax.contrib.muon, ours, params=MATRICES)
    assert found.equal, found
    other = diff(optax.contrib.muon, gs.muon, params=MATRICES)
    assert [one.kind for one in other.findings] == ["argument momentum_kind and argument eps"]


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


def test_a_scalar_in_float32_is_rounding_and_a_counter_is_none():
    def debiased(cast=lambda count: count, decay=0.999):
        def update(grads, count, params=None):
            correction = 1 - decay ** cast(count)
            return jax.tree.map(lambda g: (g / correction).astype(g.dtype), grads), count + 1

        return optax.GradientTransformation(lambda params: jnp.ones((), jnp.int32), update)

    exact, narrow = debiased(), lambda count: count.astype(jnp.float32)
    found = diff(exact, debiased(narrow), params=SMALL_TREE)
    assert found.equal
    assert found.notes[0].startswith("compared in float32: in float64 they differ by up to")
    assert not diff(exact, debiased(narrow, 0.999001), params=SMALL_TREE).equal
    assert not diff(exact, debiased(decay=0.999 + 1e-9), params=SMALL_TREE).equal

    def counting(grads, count, params=None):
        small = count < jnp.float32(9)
        return jax.tree.map(lambda g: jnp.where(small, g, 2 * g), grads), count + jnp.float32(1)

    counter = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.float32), counting)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        ground = make_ground(SMALL_SHAPES, 3, 0)
        assert JaxSide(Subject("counter", counter)).scalar_eps(ground) == 0


def test_an_optimizer_may_refuse_in_any_words():
    class RefusalError(Exception):
        pass

    def fussy(learning_rate=0.01, b1=0.9, b2=0.999):
        if b1 != 0.9:
            raise RefusalError
        return optax.adam(learning_rate, b1, b2)

    found = diff(fussy, by_hand(b2=0.95), params=SMALL_TREE)
    assert [one.kind for one in found.findings] == ["argument b2"], found


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_change_of_ours_that_fails_is_no_refusal(place):
    """Neither around an optimizer, nor around another change."""

    def broken(_):
        raise RuntimeError("ours")

    search = Search(math.inf)
    ground = make_ground(SMALL_SHAPES, 3, 0)
    side = JaxSide(Subject("sgd", optax.sgd, {"learning_rate": 0.1}))
    change = Changed(side, **{place: broken})
    for number, one in enumerate((change, Changed(change))):
        with pytest.raises(RuntimeError, match="ours"):
            search.updates("sgd", str(number), one, ground)


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
