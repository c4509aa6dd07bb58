"""The Gram form: where it restarts, and why; and what it is worth."""

import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import HARD_SPECTRA, gaussian, hard_stack, with_spectrum
from overridden import overridden

from gradsmith.matrix import SCHEDULES, gram_newton_schulz, newton_schulz
from gradsmith.matrix.polar.gram_newton_schulz import segments
from gradsmith.matrix.symmetric import gram as gram_matrix

KELLER = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_segment_never_amplifies_rounding_beyond_a_tenth(name):
    triples = SCHEDULES[name].coefficients
    cut = segments(triples, jnp.float32)
    assert sum(cut, ()) == triples
    for segment in cut:
        assert np.prod([a for a, _, _ in segment]) ** 2 * 2.0**-24 <= 0.1


def test_five_steps_in_float32_need_no_restart_and_ten_do():
    assert len(segments((KELLER,) * 5, jnp.float32)) == 1
    assert [len(part) for part in segments((KELLER,) * 10, jnp.float32)] == [5, 5]
    assert len(segments((KELLER,) * 10, jnp.float64)) == 1


def test_without_its_restarts_a_long_run_explodes(monkeypatch):
    x = jnp.asarray(with_spectrum(HARD_SPECTRA["condition 1e6"](48), 48, 96), jnp.float32)
    norm = lambda: float(jnp.linalg.norm(gram_newton_schulz(x, steps=12)) / np.sqrt(48))
    assert norm() < 1.2
    module = "gradsmith.matrix.polar.gram_newton_schulz"
    monkeypatch.setattr(f"{module}.segments", lambda triples, *_: [triples])
    assert not norm() < 10  # nor if it is NaN


@pytest.mark.parametrize("shape", [(64, 192), (192, 64), (64, 64)], ids=str)
def test_keller_is_the_same_in_both_forms(shape):
    x = jnp.asarray(hard_stack(*shape), jnp.float32)
    difference = np.abs(np.asarray(gram_newton_schulz(x) - newton_schulz(x))).max(axis=(-2, -1))
    for name, largest in zip(HARD_SPECTRA, difference, strict=True):
        # Rounding in the null space grows by the square of the slope at zero.
        assert largest < (2e-5 if name in ("gaussian", "linear", "equal") else 1e-3), name


@pytest.mark.parametrize("shape", [(2, 9, 20), (2, 20, 9), (9, 20)], ids=str)
@pytest.mark.parametrize("imaginary", [0.0, 1j], ids=["real", "complex"])
def test_a_gram_matrix_in_blocks_is_whole_and_hermitian(shape, imaginary):
    x = gaussian(*shape) + imaginary * gaussian(*shape, seed=1)
    y = x.mT.conj() if x.shape[-2] > x.shape[-1] else x
    divisor = jnp.full((*shape[:-2], 1, 1), 4.0)
    x = jnp.asarray(x, jnp.complex64 if imaginary else jnp.float32)
    with overridden(blocks_from=8):
        got = gram_matrix(x, divisor, divisor)
    np.testing.assert_allclose(got, y @ y.mT.conj() / 4**4, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("imaginary", [0.0, 1j], ids=["real", "complex"])
def test_blocks_change_nothing(imaginary):
    x = gaussian(2, 9, 20) + imaginary * gaussian(2, 9, 20, seed=1)
    x = jnp.asarray(x, jnp.complex64 if imaginary else jnp.float32)
    whole = gram_newton_schulz(x)
    with overridden(blocks_from=8):
        np.testing.assert_allclose(gram_newton_schulz(x), whole, atol=1e-5)
        np.testing.assert_allclose(gram_newton_schulz(x.mT), whole.mT, atol=1e-5)
