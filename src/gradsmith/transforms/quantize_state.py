"""A state in 8 bits: each block of numbers is kept as integers and one scale."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact, Int8

from ..sites.shards import explicit_mesh, explicit_spec, in_auto_axes
from ..xla.trace_once import trace_once
from .arguments import check_fixed

_LARGEST = 127


class QuantizedState(NamedTuple):
    """The state of the transformation inside: integers in place of numbers, and their scales.

    Attributes:
        kept: The tree of that state. Arrays of numbers are `int8`; counters and scalars are as they
            were.
        scales: The largest absolute value of each block; None where nothing is quantized.
    """

    kept: Any
    scales: Any


def quantize_state(
    tx: optax.GradientTransformation, block: int = 2048
) -> optax.GradientTransformationExtraArgs:
    """Keep the state of a momentum in 8 bits, as Muon needs no more of it.

    Before a step the state is made float again, and after it rounded. Every block of up to `block`
    numbers is divided by its largest absolute value `M`, and kept in steps of `M / 127`. Blocks lie
    along the last axis of each array. If a mesh splits a block, one maximum travels; nothing else
    does.

    State: `1 + 4 / b` bytes for a number of 4, `b` the length of a block: `block`, or the last axis
    where that is shorter. Costs two passes over the state.

    One rounding is wrong by up to `M / 254`. A momentum adds these errors up. With `decay`, what is
    kept is wrong by up to `M / 254 / (1 - decay)`, where `M` is the largest of all steps. For 0.95
    that is `0.079 M`, and `decay` times that in what comes out. The bound is reached: if gradients
    do not change, a number stops as soon as a step would move it by less than `M / 254`. The noise
    of gradients moves it on. An orthogonalized update needs only directions that are larger.

    Do not use it for a mean square, such as Adam's: its small numbers become zero, and Adam divides
    by them.

    A direction: stands before the learning rate, where `tx` stands. `tx` may be a rule.

    Args:
        tx: What has the state, such as `momentum(0.95)`.
        block: The largest length of a block. With 1 nothing is lost, and nothing gained.

    Raises:
        ValueError: `block` is less than 1.
        TypeError: `block` is an array: it decides the shapes of the state.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.quantize_state(gs.momentum(0.5, "heavy_ball"))
        >>> grads = {"kernel": jnp.array([[1.0, -0.25, 0.001]])}
        >>> _, state = tx.update(grads, tx.init(grads))
        >>> print(state.kept.momentum["kernel"], state.scales.momentum["kernel"])
        [[127 -32   0]] [[1.]]

    References:
        Gupta et al., Effective Quantization of Muon Optimizer States, 2025, arXiv:2509.23106;
        Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2022, arXiv:2110.02861.
    """
    check_fixed("quantize_state", block=block)
    if block < 1:
        raise ValueError(f"quantize_state needs block >= 1, got {block}")
    inner = optax.with_extra_args_support(tx)

    def narrow(state: Any) -> QuantizedState:
        leaves, structure = jax.tree.flatten(state)
        quantize = trace_once(lambda x: _quantize_on_mesh(x, block))
        pairs = [quantize(x) if _is_quantized(x) else (x, None) for x in leaves]
        kept, scales = ([pair[i] for pair in pairs] for i in range(2))
        return QuantizedState(structure.unflatten(kept), structure.unflatten(scales))

    def widen(state: QuantizedState) -> Any:
        restore = trace_once(_restore_on_mesh)
        kept, structure = jax.tree.flatten(state.kept)
        scales = structure.flatten_up_to(state.scales)
        pairs = zip(kept, scales, strict=True)
        return structure.unflatten(q if scale is None else restore(q, scale) for q, scale in pairs)

    def init_fn(params: Any) -> QuantizedState:
        state = narrow(inner.init(params))
        if not jax.tree.leaves(params):
            # A leaf, so that `optax.tree.map_params` passes over the scales: none has the shape of
            # a parameter.
            state = state._replace(scales=jnp.zeros((), jnp.int32))
        return state

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any):
        if not jax.tree.leaves(updates):
            return updates, state
        updates, new = inner.update(updates, widen(state), params, **extra)
        return updates, narrow(new)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _is_quantized(x: Any) -> bool:
    return jnp.ndim(x) > 0 and jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _quantize_on_mesh(x: Array, block: int) -> list[Array]:
    """Run `_quantize` on a mesh of Explicit axes too, where JAX reshapes no axis that is split.

    Integers are split as the numbers are, and scales too, but not along their last axis.
    """
    run, mesh = lambda x: _quantize(x, block), explicit_mesh(x)
    if mesh is None:
        return run(x)
    spec = _spec(x)
    pair = (None,) if jnp.iscomplexobj(x) else ()
    specs = [PartitionSpec(*spec, *pair), PartitionSpec(*spec[:-1], None)]
    return in_auto_axes(run, specs, mesh)(x)


def _restore_on_mesh(q: Array, scales: Array) -> Array:
    """Run `_restore` on a mesh of Explicit axes too."""
    mesh = explicit_mesh(q)
    spec = PartitionSpec(*_spec(q)[: scales.ndim])
    run = _restore if mesh is None else in_auto_axes(_restore, [spec], mesh)
    return run(q, scales)[0]


def _spec(x: Array) -> tuple:
    spec = tuple(explicit_spec(x) or ())
    return spec + (None,) * (x.ndim - len(spec))


def _quantize(x: Inexact[Array, "..."], block: int) -> list[Array]:
    """Return integers of the shape of `x`, two for a complex number, and a scale for each block.

    The scales have the dtype of `x`, so that it is not forgotten.
    """
    if jnp.iscomplexobj(x):
        (real, of_real), (imag, of_imag) = (_quantize(part, block) for part in (x.real, x.imag))
        return [jnp.stack([real, imag], -1), jax.lax.complex(of_real, of_imag)]
    size = x.shape[-1]
    count = max(1, -(-size // block))
    blocks = _in_blocks(x, count)
    # Not `max`, whose derivative asks for its value, and may find it nowhere: see `largest_entry`.
    sizes = jnp.abs(blocks)
    places = jnp.argmax(sizes, axis=-1, keepdims=True)
    numbers = jax.lax.broadcasted_iota(places.dtype, sizes.shape, sizes.ndim - 1)
    scales = jnp.sum(jnp.where(numbers == places, sizes, 0), axis=-1)
    parts = blocks / jnp.where(scales == 0, 1.0, scales).astype(x.dtype)[..., None]
    whole = jnp.round(parts * _LARGEST).astype(jnp.int8)
    return [_joined(whole, size), scales]


def _restore(q: Int8[Array, "..."], scales: Inexact[Array, "..."]) -> list[Array]:
    """Return the numbers; the largest of each block is exact."""
    if jnp.iscomplexobj(scales):
        (real,), (imag,) = _restore(q[..., 0], scales.real), _restore(q[..., 1], scales.imag)
        return [jax.lax.complex(real, imag)]
    blocks = _in_blocks(q, scales.shape[-1]).astype(scales.dtype) / _LARGEST
    return [_joined(blocks * scales[..., None], q.shape[-1])]


def _in_blocks(x: Array, count: int) -> Array:
    """Return the last axis in so many blocks, the last one filled up with zeros."""
    length = max(1, -(-x.shape[-1] // count))
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, count * length - x.shape[-1])])
    return padded.reshape(*x.shape[:-1], count, length)


def _joined(blocks: Array, size: int) -> Array:
    """Return the last axis again, the inverse of `_in_blocks`."""
    *rest, count, length = blocks.shape
    return blocks.reshape(*rest, count * length)[..., :size]
