"""How long one update takes on the devices that are there."""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh

from ..layout.paths import arrays
from .compiled_update import compile_update
from .state_shardings import mesh_of_params

ROUNDS = 10


def update_seconds(
    optimizers: Mapping[str, tuple[optax.GradientTransformation, Any]],
) -> dict[str, float]:
    """Run updates, and return the median seconds of one by each optimizer.

    The optimizers take turns, so that a machine that is busy for a while disturbs all alike. Each
    goes on from its own state, with random parameters and gradients. It needs memory for the states
    of all.

    Args:
        optimizers: By name, each with shapes of its parameters; on a mesh with `NamedSharding`.

    Raises:
        ValueError: The parameters lie on an abstract mesh, or on several.
    """
    turns = {name: _running(tx, arrays(params)) for name, (tx, params) in optimizers.items()}
    seconds = {name: [] for name in turns}
    for number in range(ROUNDS + 1):  # the first one is for warming up
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in seconds.items()}


def _running(tx: optax.GradientTransformation, params: Any) -> Callable[[], None]:
    """Return a function that makes the next update and waits for it."""
    mesh = mesh_of_params(params)
    if isinstance(mesh, AbstractMesh):
        raise ValueError("an update runs on devices, and these parameters lie on an abstract mesh")
    compiled = compile_update(tx, params, mesh)
    of_params, of_state = compiled.shardings
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        values, grads = (
            jax.jit(lambda seed=seed: _random(seed, params), out_shardings=of_params)()
            for seed in (0, 1)
        )
        state = jax.jit(tx.init, out_shardings=of_state)(values)

    def turn() -> None:
        nonlocal state
        _, state = jax.block_until_ready(compiled.update(grads, state, values))

    return turn


def _random(seed: int, params: Any) -> Any:
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))

    def draw(key: jax.Array, leaf: Any) -> jax.Array:
        return jax.random.normal(key, leaf.shape).astype(leaf.dtype)

    return jax.tree.unflatten(structure, list(map(draw, keys, leaves)))
