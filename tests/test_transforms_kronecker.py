import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian

from gradsmith.transforms.kronecker import Pair, with_grams
from gradsmith.transforms.soap import scale_by_soap


@pytest.mark.parametrize("n", [5, 640, 768, 1152, 521], ids=str)
def test_factors_move_by_the_gram_matrices(n):
    """640 and 768 are two blocks, 1152 is three, 521 is prime and one."""
    x = gaussian(2, n, 3)
    factors = Pair(gaussian(2, n, n, seed=1), gaussian(2, 3, 3, seed=2))
    as_float32 = lambda pair: Pair(*(jnp.asarray(a, jnp.float32) for a in pair))
    step = lambda old, gram: 0.5 * old + gram
    moved = with_grams(step, as_float32(factors), as_float32(Pair(x, x)))
    np.testing.assert_allclose(moved.fan_in, 0.5 * factors.fan_in + x @ x.mT, atol=1e-4)
    np.testing.assert_allclose(moved.fan_out, 0.5 * factors.fan_out + x.mT @ x, atol=1e-3)


def test_complex_factors_are_hermitian():
    x = gaussian(1, 640, 2) + 1j * gaussian(1, 640, 2, seed=1)
    x, y = jnp.asarray(x, jnp.complex64), jnp.asarray(x.mT, jnp.complex64)
    zeros = jnp.zeros((1, 640, 640), x.dtype)
    moved = with_grams(jnp.add, Pair(zeros, None), Pair(x, x))
    np.testing.assert_allclose(moved.fan_in[0], x[0] @ x[0].conj().T, atol=1e-4)
    assert moved.fan_out is None
    moved = with_grams(jnp.add, Pair(None, zeros), Pair(y, y))
    np.testing.assert_allclose(moved.fan_out[0], y[0].conj().T @ y[0], atol=1e-4)


def test_large_factors_stay_where_they_are():
    """Nothing of their size is allocated where they are donated, and half is computed once."""
    n, p = 1024, 64
    factor = jax.ShapeDtypeStruct((1, n, n), jnp.float32)
    x = jax.ShapeDtypeStruct((1, n, p), jnp.float32)
    move = lambda factor, x: with_grams(jnp.add, Pair(factor, None), Pair(x, x)).fan_in
    compiled = jax.jit(move, donate_argnums=0).lower(factor, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4


def test_factors_move_with_64_bits_enabled():
    with jax.enable_x64(True):
        test_factors_move_by_the_gram_matrices(640)


@pytest.mark.parametrize("factors", ["shampoo", "kl"])
def test_every_product_of_a_step_says_its_precision(factors):
    """TPUs and GPUs multiply float32 in bfloat16 or TF32 where a product says nothing."""
    rule = scale_by_soap(factors=factors)
    stack = jnp.zeros((2, 4, 6))
    program = jax.make_jaxpr(rule.update)(stack, rule.init(stack))
    precisions = re.findall(r"dot_general\[\s+dimension_numbers=.*\s+(\S+)", str(program))
    assert len(precisions) == str(program).count("dot_general[")
    assert set(precisions) == {"precision=(Precision.HIGHEST,"}
