"""Every product of every technique, lowered for accelerators, is in the arithmetic it declares.

The polar factor of float32 is iterated in bfloat16; everything else, whose eigenvalues would not
survive that, is multiplied in full.
"""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from precision_walk import ACCELERATORS, arithmetic_of, products, undeclared

import gradsmith as gs
from gradsmith.catalogue import TECHNIQUES

SHAPES = {"a": (24, 48), "b": (48, 24), "c": (24, 24)}
PARAMS = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
BOTH = {"soap_muon", "forge"}  # bases in full, the polar factor behind them narrow
NARROW = {
    "muon", "dion2", "normuon", "muoneq", "adamuon", "namo", "muonh", "scion", "mars_muon",
    "orthogonalize", "orthogonalize_largest", "polar_factor", "scale_by_namo",
}  # fmt: skip
MULTIPLY = {
    "kron",
    "scale_by_psgd",
    "soap",
    "soap(factors='kl')",
    "shampoo",
    "asgo",
    "scale_by_soap",
    "scale_by_shampoo",
    "whiten_momentum",
}


def update(tx):
    """An update, and what it takes."""
    tx = optax.with_extra_args_support(tx)
    extra = {"max_logits": {name: jnp.ones(1) for name in PARAMS}}
    state = jax.eval_shape(tx.init, PARAMS)
    return lambda grads, state: tx.update(grads, state, grads, **extra), PARAMS, state


def of_directions():
    return [one for one in TECHNIQUES if one.kind in ("optimizer", "direction")]


@pytest.mark.parametrize("target", ACCELERATORS)
@pytest.mark.parametrize("technique", of_directions(), ids=lambda one: one.name)
def test_every_product_is_in_the_arithmetic_that_is_declared(technique, target):
    narrow, full = technique.name in NARROW | BOTH, technique.name not in NARROW
    declared = {*["bfloat16"] * narrow, *["float32"] * full}
    with gs.target(target):
        function, *arguments = update(technique.make())
    assert undeclared(function, *arguments, target=target, declared=declared) == []
    if technique.name in NARROW | BOTH | MULTIPLY:
        assert products(function, *arguments, target=target)


@pytest.mark.parametrize("target", ACCELERATORS)
@pytest.mark.parametrize("recipe", [gs.muon, gs.normuon, gs.mars_muon], ids=lambda x: x.__name__)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "bfloat16_3x"])
def test_a_precision_that_is_asked_for_is_that_of_every_product(recipe, precision, target):
    function, *arguments = update(recipe(0.1, precision=precision))
    assert undeclared(function, *arguments, target=target, declared={precision}) == []


@pytest.mark.parametrize("precision", ["float16", "tfloat32"])
def test_what_only_gpus_have_is_for_gpus(precision):
    function, *arguments = update(gs.muon(0.1, precision=precision))
    assert undeclared(function, *arguments, target="cuda", declared={precision}) == []
    with pytest.raises(ValueError, match=rf"'{precision}' .* tpu .* it has bfloat16, bfloat16_3x"):
        products(function, *arguments, target="tpu")


@pytest.mark.parametrize("target", ACCELERATORS)
@pytest.mark.parametrize(("max_error", "precision"), [(0.32, "bfloat16"), (1e-4, "float32")])
def test_an_accuracy_takes_the_arithmetic_that_keeps_it(max_error, precision, target):
    function, *arguments = update(gs.muon(0.1, max_error=max_error))
    assert undeclared(function, *arguments, target=target, declared={precision, "float16"}) == []


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_parameters_are_iterated_like_others(dtype):
    like = lambda x: jax.ShapeDtypeStruct(x.shape, dtype)
    tx = gs.orthogonalize()
    function = lambda grads: tx.update(grads, tx.init(grads))[0]
    params = jax.tree.map(like, PARAMS)
    assert undeclared(function, params, target="tpu", declared={"bfloat16"}) == []


@pytest.mark.parametrize("dtype", [jnp.complex64, jnp.float64])
def test_complex_and_wider_matrices_are_multiplied_in_full(dtype):
    with jax.enable_x64(True):
        x = jnp.ones((8, 12), dtype)
        assert undeclared(gs.matrix.orthogonalize, x, target="tpu", declared={"float32"}) == []


@pytest.mark.parametrize("target", ACCELERATORS)
def test_a_product_in_another_arithmetic_is_found_with_its_line(target):
    def mixed(x):
        full = jnp.dot(x, x, precision="highest")
        half = jnp.dot(x, full, precision=("highest", "default"))
        return jnp.dot(half, x, precision=jax.lax.DotAlgorithmPreset.BF16_BF16_F32)

    x, line = jnp.ones((3, 3)), mixed.__code__.co_firstlineno
    found = functools.partial(undeclared, mixed, x, target=target)
    assert found(declared={"float32"}) == [
        f"{__file__}:{line + 2} in None",
        f"{__file__}:{line + 3} in bfloat16",
    ]
    assert arithmetic_of(products(mixed, x, target=target)[0]) == "float32"
