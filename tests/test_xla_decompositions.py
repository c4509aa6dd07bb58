"""Decompositions are those of NumPy, and never wait for each other."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian
from overridden import overridden

from gradsmith.xla.decompositions import eigh, svd
from gradsmith.xla.simulate import simulated_devices

BATCHES = pytest.mark.parametrize("decomposes_batches", [True, False])
SHAPES = pytest.mark.parametrize("stack", [(), (1,), (3,), (2, 3), (0,)], ids=str)


@BATCHES
@SHAPES
def test_eigenvalues_and_vectors_are_numpys(stack, decomposes_batches):
    a = gaussian(*stack, 4, 4)
    a = a @ a.mT
    with overridden(decomposes_batches=decomposes_batches):
        values, vectors = eigh(jnp.asarray(a, jnp.float32))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(a), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose((vectors * values[..., None, :]) @ vectors.mT, a, atol=1e-4)


@BATCHES
@SHAPES
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)], ids=str)
def test_singular_values_and_vectors_are_numpys(stack, shape, decomposes_batches):
    x = gaussian(*stack, *shape)
    with overridden(decomposes_batches=decomposes_batches):
        u, s, vh = svd(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(s, np.linalg.svd(x, compute_uv=False), rtol=1e-4)
    np.testing.assert_allclose((u * s[..., None, :]) @ vh, x, atol=1e-5)


@BATCHES
@pytest.mark.parametrize("wrap", [lambda f: f, jax.vmap, jax.jit], ids=["plain", "vmap", "jit"])
def test_one_call_is_for_one_matrix_where_a_batch_may_hang(wrap, decomposes_batches):
    with overridden(decomposes_batches=decomposes_batches):
        text = str(jax.make_jaxpr(wrap(eigh))(jnp.ones((3, 2, 4, 4))))
    calls = [line for line in text.splitlines() if "= eigh[" in line]
    assert ("f32[4,4]" in "".join(calls)) is not decomposes_batches
    assert len(calls) == 1


HANGS = """
import os
if hasattr(os, "sched_setaffinity"):  # XLA's pool has as many threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax, jax.numpy as jnp
import gradsmith as gs
from gradsmith import matrix

mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

def body(x):
    a = x @ x.mT
    roots = [matrix.inverse_root(a + shift * jnp.eye(128), 4) for shift in range(3)]
    shampoo = gs.shampoo(0.1, axes=gs.MatrixAxes(batch_axis=0))
    update, _ = shampoo.update({"w": x}, shampoo.init({"w": x}))
    return roots, matrix.follow_basis(a, roots[0], "eigh")[0], matrix.svd_polar(x), update

spec = jax.P("x")
run = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec))
x = jax.random.normal(jax.random.key(0), (16, 128, 128))
for _ in range(5):
    jax.block_until_ready(run(x))
print("done")
"""


def test_batches_on_as_many_devices_as_cores_do_not_hang():
    """Two calls that each kept one of two threads, and waited for the other, waited forever."""
    told = subprocess.run(
        [sys.executable, "-c", HANGS],
        env=simulated_devices(2),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert told.stdout == "done\n", told.stderr
