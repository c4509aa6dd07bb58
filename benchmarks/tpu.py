"""Muon and SOAP, compiled for a TPU that need not be there, beside Optax's Muon and a plain SOAP.

python benchmarks/tpu.py [name ...]        (needs libtpu: pip install 'gradsmith[tpu]')

Cycles are estimated by the TPU compiler, not timed. It tells none of collectives, nor of the QR
decompositions of a refresh, which both sides leave to the library: `>=` stands before such cycles.
Ratios are those to the other one, compiled in the same way: `optax.contrib.muon`, and for SOAP the
procedure of its authors, leaf by leaf (`benchmarks/soap.py`). One process at a time can have
libtpu, and a row takes minutes: names choose rows.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import soap
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs
from gradsmith.xla.program.collectives import in_words
from gradsmith.xla.program.cycles import Cycles

ON = "v5e:2x4"
MESH = AbstractMesh((8,), ("fsdp",), axis_types=(AxisType.Explicit,))
STACKED = gs.MatrixAxes(batch_axis=0)


def leaf(*shape: int, spec: P | None = None) -> jax.ShapeDtypeStruct:
    sharding = None if spec is None else NamedSharding(MESH, spec)
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)


def layer(spec: P | None = None) -> dict[str, Any]:
    """The matrices of a layer of GPT-2 small."""
    square = {name: leaf(768, 768, spec=spec) for name in ("query", "key", "value", "out")}
    return {**square, "up": leaf(768, 3072, spec=spec), "down": leaf(3072, 768, spec=spec)}


def layers(count: int, spec: P | None = None) -> dict[str, Any]:
    return {f"layer_{index}": layer(spec) for index in range(count)}


def gpt2() -> dict[str, Any]:
    """All parameters but biases and norms."""
    return {"wte": {"embedding": leaf(50257, 768)}, **layers(12)}


def stacked(params: Any) -> Any:
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers((1,), (2,)), params)


def at_step(tx: optax.GradientTransformation, step: int) -> optax.GradientTransformation:
    """The same with constants for its counters, so that this step alone is compiled."""

    def constant(leaf: Any) -> Any:
        is_counter = leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.integer)
        return jnp.asarray(step, leaf.dtype) if is_counter else leaf

    def update_fn(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return tx.update(updates, jax.tree.map(constant, state), params)

    return optax.GradientTransformation(tx.init, update_fn)


def our_soap() -> optax.GradientTransformation:
    rule = gs.scale_by_soap(soap.B1, soap.B2, soap.EPS, refresh_every=10)
    return gs.per_stack(rule, placement="replicated")


def on_auto_axes(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The same leaf for Optax, which knows no Explicit axes."""
    if leaf.sharding is None:
        return leaf
    mesh = AbstractMesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    home = NamedSharding(mesh, leaf.sharding.spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=home)


CASES: dict[str, tuple[Any, Callable, Callable]] = {
    "layer": (layer(), gs.muon, optax.contrib.muon),
    "layer, max_error": (layer(), lambda r: gs.muon(r, max_error=0.32), optax.contrib.muon),
    "layer, float32": (layer(), lambda r: gs.muon(r, precision="float32"), optax.contrib.muon),
    "2048x8192": ({"a": leaf(2048, 8192)}, gs.muon, optax.contrib.muon),
    "4096x4096": ({"a": leaf(4096, 4096)}, gs.muon, optax.contrib.muon),
    "scanned": (
        {"a": leaf(12, 768, 3072)},
        lambda r: gs.muon(r, axes=STACKED),
        lambda r: optax.contrib.muon(r, muon_weight_dimension_numbers=stacked),
    ),
    "fsdp": (layers(2, P("fsdp", None)), gs.muon, optax.contrib.muon),
    "fsdp, 12 layers": (layers(12, P("fsdp", None)), gs.muon, optax.contrib.muon),
    "gpt2": (gpt2(), gs.muon, optax.contrib.muon),
    "soap, a step": (
        layer(),
        lambda _: at_step(our_soap(), 5),
        lambda _: at_step(soap.reference(10), 5),
    ),
    # Ours refreshes at the start of the next step.
    "soap, a refresh": (
        {"query": leaf(768, 768)},
        lambda _: at_step(our_soap(), 11),
        lambda _: at_step(soap.reference(10), 10),
    ),
}


def in_millions(cycles: Cycles, digits: str = ".3f") -> str:
    return f"{'' if cycles.exact else '>= '}{cycles.all / 1e6:{digits}}"


def main(names: list[str]) -> None:
    print(
        f"{'':20}{'Mcycles':>9}{'products':>10}{'other':>9}{'ratio':>7}{'compile':>9}{'ratio':>7}"
    )
    for name in names or CASES:
        params, ours, theirs = CASES[name]
        mine = gs.update_cost(ours(0.02), params, on=ON)
        other = gs.update_cost(theirs(0.02), jax.tree.map(on_auto_axes, params), on=ON)
        assert mine.cycles is not None
        assert other.cycles is not None
        collectives = [in_words(cost.collectives) for cost in (mine, other)]
        told = f"   {collectives[0]}; other {collectives[1]}" if any(collectives) else ""
        print(
            f"{name:20}{in_millions(mine.cycles):>9}{mine.cycles.products / 1e6:10.3f}"
            f"{in_millions(other.cycles):>9}{mine.cycles.all / other.cycles.all:7.2f}"
            f"{mine.compile_seconds:8.0f}s{mine.compile_seconds / other.compile_seconds:7.1f}"
            f"{told}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
