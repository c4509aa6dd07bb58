"""One update of an optimizer as a training run compiles it."""

import contextlib
import time
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh, SingleDeviceSharding

from ..xla.targets import current_target
from .state_shardings import bytes_on_device, state_shapes


class CompiledUpdate(NamedTuple):
    """An update that can be called, and what is read of its program.

    Args:
        update: `(grads, state, params) -> (updates, state)`.
        text: The program.
        shardings: Where parameters and state lie.
        matrices: The paths of the leaves that a rule takes.
        temporaries: The bytes beside inputs and outputs.
        state: The bytes of the state on a device.
        arguments: The bytes of all inputs on a device.
        seconds: How long the compiler took.
    """

    update: jax.stages.Compiled
    text: str
    shardings: tuple[Any, Any]
    matrices: Collection[str]
    temporaries: int
    state: int
    arguments: int
    seconds: float


def compile_update(
    tx: optax.GradientTransformation,
    params: Any,
    mesh: Mesh | None = None,
    alone: SingleDeviceSharding | None = None,
) -> CompiledUpdate:
    """Compile one update; the new updates and state return to where the old ones were.

    Args:
        tx: The whole optimizer.
        params: Shapes of the parameters, with their shardings on a mesh.
        mesh: Where the parameters lie, if on several devices.
        alone: The only device, if it is another than JAX would take.

    Raises:
        NotImplementedError: The compiler does not show its programs.
    """
    update = optax.with_extra_args_support(tx).update
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        state, log = state_shapes(tx, params)
        at = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=alone)
        state = state if alone is None else jax.tree.map(at, state)
        shardings = jax.tree.map(lambda x: getattr(x, "sharding", None), (params, state))
        step = jax.jit(
            lambda grads, state, params: update(grads, state, params), out_shardings=shardings
        )
        lowered = step.lower(params, state, params)
        start = time.perf_counter()
        compiled = lowered.compile()
        seconds = time.perf_counter() - start
    text, memory = compiled.as_text(), compiled.memory_analysis()
    if text is None or memory is None:
        raise NotImplementedError(f"{current_target().name} does not show its compiled programs")
    return CompiledUpdate(
        compiled,
        text,
        shardings,
        log.axes.keys(),
        memory.temp_size_in_bytes,
        bytes_on_device(state),
        memory.argument_size_in_bytes,
        seconds,
    )
