"""No product of `gradsmith.matrix` leaves its precision to the accelerator."""

import functools
import inspect

import jax
import jax.numpy as jnp
import pytest
from precision_walk import ACCELERATORS, place, products, silent_products

from gradsmith import matrix

WIDE = jnp.ones((2, 60, 130))
SQUARE = jnp.ones((2, 60, 60))

FUNCTIONS = {
    "newton_schulz": (matrix.newton_schulz, WIDE),
    "gram_newton_schulz": (matrix.gram_newton_schulz, WIDE),
    "gram_newton_schulz, restarted": (functools.partial(matrix.gram_newton_schulz, steps=12), WIDE),
    "gram_newton_schulz, tall": (matrix.gram_newton_schulz, WIDE.mT),
    "newton_schulz, schatten8": (
        functools.partial(matrix.newton_schulz, normalizer="schatten8"),
        WIDE,
    ),
    "zolotarev": (matrix.zolotarev, WIDE),
    "halley": (matrix.halley, WIDE),
    "svd_polar": (matrix.svd_polar, WIDE),
    "orthogonalize": (functools.partial(matrix.orthogonalize, max_error=0.1), WIDE),
    "inverse_root, eigh": (lambda a: matrix.inverse_root(a, 4), SQUARE),
    "inverse_root, newton": (lambda a: matrix.inverse_root(a, 4, "newton"), SQUARE),
    "orthonormal": (matrix.orthonormal, SQUARE),
    "follow_basis, qr": (lambda a: matrix.follow_basis(a, a), SQUARE),
    "follow_basis, eigh": (lambda a: matrix.follow_basis(a, a, "eigh"), SQUARE),
}


def test_every_public_function_is_asked():
    public = {name for name, value in vars(matrix).items() if inspect.isfunction(value)}
    asked = {name.partition(",")[0] for name in FUNCTIONS}
    assert public - asked == {"explain", "polar_express"}  # which make no arrays


@pytest.mark.parametrize("target", ACCELERATORS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_product_says_its_precision(name, target):
    function, x = FUNCTIONS[name]
    assert silent_products(function, x, target=target) == []


@pytest.mark.parametrize("target", ACCELERATORS)
def test_a_silent_product_is_found_with_its_line(target):
    x = jnp.ones((3, 3))
    algorithm = jax.lax.DotAlgorithmPreset.BF16_BF16_F32
    said = lambda x: jnp.dot(x, x, precision="high") + jnp.dot(x, x, precision=algorithm)
    assert silent_products(said, x, target=target) == []
    assert silent_products(lambda x: x.astype(int) @ x.astype(int), x, target=target) == []

    def in_a_loop(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ x, x)

    line = in_a_loop.__code__.co_firstlineno + 1
    assert silent_products(in_a_loop, x, target=target) == [f"{__file__}:{line}"]
    assert [place(product) for product in products(in_a_loop, x, target=target)] != []
