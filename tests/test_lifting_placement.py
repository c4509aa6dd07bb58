import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradsmith as gs


def params():
    keys = jax.random.split(jax.random.key(0), 2)
    return {
        "kernel": jax.random.normal(keys[0], (16, 8)),
        "layers": jax.random.normal(keys[1], (2, 8, 16)),
        "bias": jnp.ones(8),
    }


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("spec", [("data", None), (None, "data"), (None, None)], ids=str)
def test_muon_on_a_mesh_is_muon(kind, spec):
    layers = {"layers": gs.MatrixAxes(batch_axis=0)}
    tx = gs.muon(0.02, axes=layers)
    expected, _ = tx.update(params(), tx.init(params()))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        place = lambda x: NamedSharding(
            mesh, PartitionSpec(*((None,) * (x.ndim - 2) + spec)[-x.ndim :])
        )
        sharded = jax.tree.map(lambda x: jax.device_put(x, place(x)), params())
        updates, _ = jax.jit(tx.update)(sharded, jax.jit(tx.init)(sharded))
    for name, update in updates.items():
        # A partial sum on each device, and about 500 times its rounding after Newton-Schulz.
        np.testing.assert_allclose(update, expected[name], atol=1e-5, err_msg=name)
        if kind == AxisType.Explicit:
            assert update.sharding.spec == sharded[name].sharding.spec
