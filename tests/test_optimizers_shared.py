"""What all recipes share: arguments that are documented, AdamW's numbers, what decays, groups."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs
from gradsmith import optimizers
from gradsmith.optimizers.shared import Shared, by_role

ALL = {name: f for name, f in vars(optimizers).items() if inspect.isfunction(f)}
FOR_MATRICES = {n: f for n, f in ALL.items() if "adam_b1" in inspect.signature(f).parameters}
PARAMS = {
    "kernel": jnp.full((4, 6), 2.0),
    "bias": jnp.full(6, 2.0),
    "ln_scale": {"gain": jnp.full((3, 6), 2.0)},  # of three scanned layers
    "embedding": jnp.full((9, 4), 2.0),
    "head": jnp.full((6, 9), 2.0),
}
MATRICES, VECTORS = ("kernel",), ("bias", "ln_scale")
SPHERES = ("muonh", "adamh")  # their matrices keep their lengths, so that none decays
OWN_HEAD = ("scion", "forge")  # have a rule for the head, at the rate of the matrices


def first_updates(tx, params=PARAMS):
    grads = jax.tree.map(jnp.ones_like, params)
    return jax.jit(tx.update)(grads, tx.init(params), params)[0]


def decay_of(with_decay, without):
    """How much of each leaf the decay took."""
    one, other = first_updates(with_decay), first_updates(without)
    part = jax.tree.map(lambda a, b, p: jnp.mean((b - a) / p), one, other, PARAMS)
    return {name: float(jax.tree.leaves(part[name])[0]) for name in PARAMS}


def test_there_are_sixteen_recipes_for_matrices_and_two_for_everything():
    assert len(FOR_MATRICES) == 16
    assert set(ALL) - set(FOR_MATRICES) == {"mars_adamw", "ademamix"}


@pytest.mark.parametrize("name", ALL)
def test_the_docstring_of_a_recipe_says_what_every_argument_is(name):
    doc = inspect.getdoc(ALL[name])
    for argument in inspect.signature(ALL[name]).parameters:
        assert re.search(rf"^    {argument}: [A-Z'`]", doc, re.MULTILINE), argument
    assert "**shared" not in doc
    assert "As for" not in doc


def test_the_shared_arguments_are_those_of_the_function_that_takes_them():
    taken = inspect.signature(by_role).parameters
    assert list(Shared.__annotations__) == [n for n, p in taken.items() if p.kind is p.KEYWORD_ONLY]


def test_an_argument_that_does_not_exist_is_named():
    with pytest.raises(TypeError, match="adam_beta"):
        gs.soap(0.1, adam_beta=0.9)


@pytest.mark.parametrize("name", ALL)
def test_vectors_do_not_decay_unless_the_mask_says_so(name):
    recipe = ALL[name]
    rates = decay_of(recipe(0.1, weight_decay=0.5), recipe(0.1))
    assert all(rates[leaf] == 0 for leaf in VECTORS)
    still = VECTORS + (MATRICES if name in SPHERES else ())
    assert {leaf for leaf, rate in rates.items() if rate > 1e-3} == set(PARAMS) - set(still)
    only = lambda params: jax.tree_util.tree_map_with_path(
        lambda path, p: "bias" in str(path), params
    )
    rates = decay_of(recipe(0.1, weight_decay=0.5, weight_decay_mask=only), recipe(0.1))
    assert {leaf for leaf, rate in rates.items() if rate} == {"bias"}


@pytest.mark.parametrize("name", FOR_MATRICES)
def test_adamws_decay_may_differ_from_that_of_the_matrices(name):
    recipe = FOR_MATRICES[name]
    rates = decay_of(
        recipe(0.1, adam_learning_rate=0.2, weight_decay=0.5, adam_weight_decay=0.25),
        recipe(0.1, adam_learning_rate=0.2),
    )
    expected = [0.0 if name in SPHERES else 0.05, 0.025 if name in OWN_HEAD else 0.05]
    np.testing.assert_allclose([rates["kernel"], rates["head"]], expected, rtol=1e-3)
    rates = decay_of(recipe(0.1, adam_weight_decay=0.25), recipe(0.1))
    assert {leaf for leaf, rate in rates.items() if rate} == {"embedding", "head"}


@pytest.mark.parametrize("name", FOR_MATRICES)
@pytest.mark.usefixtures("standard_promotion")
def test_adamws_numbers_are_optaxs(name):
    """Three steps of the other leaves beside `optax.adamw` with the same numbers."""
    numbers = {"b1": 0.8, "b2": 0.9, "eps": 0.1}
    tx = FOR_MATRICES[name](
        0.1,
        adam_learning_rate=0.2,
        weight_decay=0.5,
        **{f"adam_{k}": v for k, v in numbers.items()},
    )
    theirs = optax.adamw(
        0.2, **numbers, weight_decay=0.5, mask=lambda tree: {k: k == "head" for k in tree}
    )
    others = {leaf: PARAMS[leaf] for leaf in ("bias", *([] if name in OWN_HEAD else ["head"]))}
    state, their_state = tx.init(PARAMS), theirs.init(others)
    update = jax.jit(tx.update)
    for step in range(3):
        grads = jax.tree.map(jnp.cos, jax.tree.map(lambda p, step=step: p + step, PARAMS))
        updates, state = update(grads, state, PARAMS)
        expected, their_state = theirs.update({k: grads[k] for k in others}, their_state, others)
        for leaf in others:
            np.testing.assert_allclose(updates[leaf], expected[leaf], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FOR_MATRICES)
def test_embeddings_and_heads_may_have_transformations_of_their_own(name):
    tx = FOR_MATRICES[name](0.1, weight_decay=0.5, embedding=optax.sgd(0.25), head=optax.sgd(0.5))
    updates = first_updates(tx)
    np.testing.assert_allclose(updates["embedding"], -0.25)
    np.testing.assert_allclose(updates["head"], -0.5)


@pytest.mark.parametrize("name", FOR_MATRICES)
def test_learning_rates_may_be_scaled_by_pattern(name):
    """With everything that goes with the rate: the decay of the kernel, and an sgd for the head."""
    make = lambda rate, **more: FOR_MATRICES[name](rate, weight_decay=0.5, **more)
    scales = {"kernel|bias": 0.5, "head": 0.25}
    scaled = first_updates(make(0.1, head=optax.sgd(1.0), lr_scales=scales))
    plain, slower = (first_updates(make(rate, head=optax.sgd(1.0))) for rate in (0.1, 0.05))
    assert_close = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5)
    assert_close(scaled["bias"], slower["bias"])
    assert_close(scaled["kernel"], plain["kernel"] / 2 if name in SPHERES else slower["kernel"])
    assert_close(scaled["head"], -0.25)
    assert_close(scaled["embedding"], plain["embedding"])
    with pytest.raises(ValueError, match=r"lr_scales=\{'haed': ...\}"):
        make(0.1, lr_scales={"haed": 0.1}).init(PARAMS)


@pytest.mark.parametrize(
    "name", [n for n, f in ALL.items() if "momentum_dtype" in inspect.signature(f).parameters]
)
def test_the_momentum_may_be_kept_in_bfloat16(name):
    def dtypes(**more):
        state = jax.eval_shape(ALL[name](0.1, **more).init, PARAMS)
        momenta = [kept for _, kept in optax.tree.get_all_with_path(state, "momentum")]
        return {x.dtype for x in jax.tree.leaves(momenta)}

    assert dtypes(momentum_dtype=jnp.bfloat16) == {jnp.dtype(jnp.bfloat16)}
    assert dtypes() == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", ALL)
def test_numbers_may_be_numpy_scalars(name):
    """Each number of the signature, as float32 or int32, gives what the Python number gives."""
    signature = inspect.signature(ALL[name])
    defaults = {
        n: p.default for n, p in signature.parameters.items() if isinstance(p.default, int | float)
    }
    defaults |= {"learning_rate": 0.125, "weight_decay": 0.5}
    scalars = {n: np.int32(v) if isinstance(v, int) else np.float32(v) for n, v in defaults.items()}
    expected = first_updates(ALL[name](**defaults))
    found = first_updates(ALL[name](**scalars))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_numpy_scalar_out_of_range_is_refused_as_a_number_is():
    with pytest.raises(ValueError, match=r"momentum needs 0 <= decay < 1, got 1\.5"):
        gs.muon(0.1, momentum=np.float32(1.5))
    with pytest.raises(ValueError, match="scale_by_soap needs refresh_every >= 1"):
        gs.soap(0.1, refresh_every=np.int64(0))
