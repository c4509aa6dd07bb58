"""Oracles of the matrix floor: float64 NumPy loops and the float64 SVD, and matrices to try."""

import contextlib

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np


def scalar_map(triples, sigma):
    """Where Newton-Schulz with these triples sends singular values."""
    sigma = np.asarray(sigma, np.float64)
    for a, b, c in triples:
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return sigma


def newton_schulz_loop(x, triples, *, slack=1.0, eps=0.0):
    """Newton-Schulz as the papers write it, in float64, one matrix, never transposed."""
    x = np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)
    x = x / (slack * (np.linalg.norm(x) + eps))
    for a, b, c in triples:
        gram = x @ x.conj().T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


def through_svd(x, function, norm=np.linalg.norm):
    """Apply a function to the singular values of `x / norm(x)`, in float64."""
    x = np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)
    u, s, vh = np.linalg.svd(x / norm(x), full_matrices=False)
    return (u * function(s)) @ vh


def polar(x):
    """The polar factor on the numerical range of a float64 matrix."""
    u, s, vh = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    return (u * (s > 1e-12 * s.max())) @ vh


def with_spectrum(spectrum, m, n, seed=0):
    """A float64 matrix `(m, n)` with these singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    spectrum = np.asarray(spectrum, np.float64)
    u = np.linalg.qr(rng.standard_normal((m, len(spectrum))))[0]
    v = np.linalg.qr(rng.standard_normal((n, len(spectrum))))[0]
    return (u * spectrum) @ v.T


def gaussian(*shape, seed=0):
    """A float64 array of independent standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def assert_derivative_is_a_difference(f, x, way, h=1e-6, tolerance=1e-6):
    """Hold `jax.jvp` and `jax.vjp` of `f` at `x` against central differences along `way`."""
    forward = np.asarray(jax.jvp(f, (x,), (way,))[1])
    np.testing.assert_allclose(forward, (f(x + h * way) - f(x - h * way)) / (2 * h), atol=tolerance)
    weights = jnp.asarray(gaussian(*forward.shape, seed=99), forward.dtype)
    (back,) = jax.vjp(f, x)[1](weights)
    np.testing.assert_allclose(jnp.sum(back * way), jnp.sum(weights * forward), rtol=1e-9)


HARD_SPECTRA = {
    "gaussian": lambda n: np.linalg.svd(gaussian(n, 2 * n), compute_uv=False),
    "equal": lambda n: np.ones(n),
    "linear": lambda n: np.arange(n, 0, -1) / n,
    "power law": lambda n: 1 / np.arange(1, n + 1),
    "condition 1e3": lambda n: np.geomspace(1, 1e-3, n),
    "condition 1e6": lambda n: np.geomspace(1, 1e-6, n),
    "condition 1e12": lambda n: np.geomspace(1, 1e-12, n),
    "quarter of the rank": lambda n: np.ones(max(1, n // 4)),
    "rank one": lambda n: np.ones(1),
    "one spike": lambda n: np.r_[1.0, np.full(n - 1, 2e-3)],
    "two large, a tiny tail": lambda n: np.r_[1.0, 0.9, np.geomspace(1e-4, 1e-7, n - 2)],
}
"""Singular values that are hard in different ways, as functions of how many there are."""


def hard_stack(m, n):
    """One float64 matrix of each hard spectrum, in the order of their names."""
    return np.stack([with_spectrum(f(min(m, n)), m, n) for f in HARD_SPECTRA.values()])


def reached(x, out, above):
    """What became of each singular value above that part of `||x||_F`, for each of a stack."""
    for matrix, result in zip(x, np.asarray(out, np.float64), strict=True):
        u, s, vh = np.linalg.svd(matrix / np.linalg.norm(matrix), full_matrices=False)
        yield np.diag(u.T @ result @ vh.T)[s > above]


@contextlib.contextmanager
def unchecked_annotations():
    """Let a wrong argument through to the code that refuses it; beartype would be faster."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
