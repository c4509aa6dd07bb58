"""One of two processes with four devices each: train by `muon`, compare with one device."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs

SHAPES = {"in": (16, 32), "out": (32, 16), "square": (16, 16), "bias": (16,)}


def tree(seed):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {
        n: np.asarray(jax.random.normal(k, s))
        for k, (n, s) in zip(keys, SHAPES.items(), strict=True)
    }


def trained(tx, place):
    params = place(tree(0))
    state = jax.jit(tx.init)(params)
    update = jax.jit(tx.update)
    for step in (1, 2, 3):
        updates, state = update(place(tree(step)), state, params)
    return updates


def main(process, port):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(process), initialization_timeout=60)
    assert jax.process_count() == 2
    alone = trained(gs.muon(0.1), lambda leaves: jax.tree.map(jnp.asarray, leaves))
    for sizes, spec in (((8,), P("x")), ((2, 4), P("x", "y")), ((4, 2), P(None, ("y", "x")))):
        kinds = (AxisType.Explicit,) * len(sizes)
        mesh = jax.make_mesh(sizes, ("x", "y")[: len(sizes)], axis_types=kinds)

        def place(leaf, mesh=mesh, spec=spec):
            home = NamedSharding(mesh, spec if leaf.ndim > 1 else P())
            return jax.make_array_from_callback(leaf.shape, home, lambda index: leaf[index])

        with jax.set_mesh(mesh):
            updates = trained(gs.muon(0.1), lambda leaves: jax.tree.map(place, leaves))
        for name, update in updates.items():
            for shard in update.addressable_shards:
                expected = np.asarray(alone[name])[shard.index]
                np.testing.assert_allclose(shard.data, expected, atol=1e-5, err_msg=name)
    print("equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
