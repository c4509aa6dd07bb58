"""Updates are run in turn, each from the state that the last one left."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.experimental import io_callback
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from gradsmith.observe.update_seconds import ROUNDS, update_seconds

PARAMS = {"kernel": jax.ShapeDtypeStruct((4, 3), jnp.bfloat16), "frozen": None, "name": "w"}


def telling(name, told):
    """A transformation that counts its updates and tells the number of each when it runs."""

    def update(updates, count, params=None):
        io_callback(lambda n: told.append((name, int(n))), None, count, ordered=True)
        return updates, count + 1

    return optax.GradientTransformation(lambda params: jnp.int32(0), update)


def test_optimizers_take_turns_and_go_on_from_their_states():
    told = []
    both = {name: (telling(name, told), PARAMS) for name in ("a", "b")}
    seconds = update_seconds(both)
    jax.effects_barrier()
    assert told == [(name, n) for n in range(ROUNDS + 1) for name in ("a", "b")]
    assert seconds.keys() == both.keys()
    assert min(seconds.values()) > 0


def test_an_abstract_mesh_is_refused():
    mesh = AbstractMesh((4,), ("fsdp",), axis_types=(AxisType.Explicit,))
    home = NamedSharding(mesh, PartitionSpec())
    leaf = jax.ShapeDtypeStruct((4, 4), jnp.float32, sharding=home)
    with pytest.raises(ValueError, match="runs on devices"):
        update_seconds({"sgd": (optax.sgd(0.1), {"kernel": leaf})})
