"""What one update costs each device."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from ..layout.paths import arrays, path_name
from ..sites.shards import mesh_in_words
from ..xla.program.collectives import Collective, in_words
from ..xla.program.counts import count
from ..xla.program.cycles import Cycles, count_cycles
from ..xla.topologies import ARITHMETIC_OF, compiling_for, devices_of, mesh_of
from .bucket_cost import BucketCost, by_bucket, received
from .compiled_update import compile_update
from .state_shardings import bytes_on_device, mesh_of_params
from .update_seconds import ROUNDS


@dataclasses.dataclass(frozen=True)
class UpdateCost:
    """The cost of one update; a table when printed, and data for programs.

    All of it is for one device.

    Attributes:
        mesh: The sizes of the mesh axes; empty on one device.
        flops: Of matrix products, the rounds of loops included.
        flops_exact: Whether everything could be counted; else `flops` and `collectives` are lower
            bounds: one round is counted of a loop whose number of rounds the program does not say.
        uncounted: What the program calls that may hold flops nobody can count, as of LAPACK or
            cuDNN; then too, `flops` is a lower bound.
        flops_bound: The flops on a single device, divided by the devices.
        calls: How often the program calls each function of a library, such as cuBLAS.
        collectives: How many of each kind, and the bytes received in them.
        received: The bytes received in all of them.
        received_bound: The fewest bytes with which every matrix can be whole on one device and
            its update be back where the matrix was.
        temporaries: The bytes that the program needs beside its inputs and outputs.
        params: The bytes of the parameters.
        state: The bytes of the state.
        on: The topology that the program is compiled for; empty for what is there.
        arguments: There, the bytes of what the program gets.
        compile_seconds: There, how long the compiler took.
        cycles: There, what the compiler expects the program to take; nothing is timed.
        arithmetic: There, the flops by what the operands of the products are rounded to.
        buckets: The flops and collectives by the buckets of the state that they are for, which the
            operations of the compiled program tell; empty where there are none.
        seconds: How long an update took, if it was run; `gradsmith cost --time` does.
    """

    mesh: dict[str, int]
    flops: float
    flops_exact: bool
    uncounted: tuple[str, ...]
    flops_bound: float
    collectives: tuple[Collective, ...]
    received: float
    received_bound: float
    temporaries: int
    params: int
    state: int
    on: str = ""
    arguments: int = 0
    compile_seconds: float = 0.0
    cycles: Cycles | None = None
    arithmetic: dict[str, float] = dataclasses.field(default_factory=dict)
    buckets: tuple[BucketCost, ...] = ()
    calls: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def __str__(self) -> str:
        console = Console(width=100 if self.cycles is None else 140, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def __rich__(self) -> Table:
        return cost_table({"": self}) if self.cycles is None else cycles_table([("", self)])


def update_cost(
    tx: optax.GradientTransformation, params: Any, *, on: str | None = None
) -> UpdateCost:
    """Compile one update and report what it costs each device.

    Nothing is allocated: shapes are enough, so a model of any size will do. The program is the one
    that `jax.jit(tx.update)` is, with updates and state returned to where they were. It is compiled
    twice, with the mesh and for a single device, which gives the bound.

    With `on`, it is compiled for a TPU that need not be there, once. The compiler tells the cycles
    that it expects, by which it decides itself; they are no timing, and collectives have none.

    Args:
        tx: The whole optimizer.
        params: The parameters, or `jax.ShapeDtypeStruct`s of them; on a mesh with `NamedSharding`;
            what is no array is left out.
        on: A topology such as 'v5e:2x4'. The parameters may lie on an abstract mesh.

    Raises:
        ValueError: Parameters lie on different meshes; or there is no such topology, or it is too
            small; or what `tx` raises.
        NoCompilerError: `on` is given, and `libtpu` is not installed.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> import gradsmith as gs
        >>> params = {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32)}
        >>> cost = gs.update_cost(gs.per_matrix(lambda x: x @ (x.T @ x)), params)
        >>> print(cost.flops, cost.received, cost.state)
        8192.0 0.0 0
    """
    params = arrays(params)
    mesh = mesh_of_params(params)
    if on is not None:
        return _on_topology(tx, params, mesh, on)
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(
            "update_cost compiles for devices, and these parameters lie on an abstract mesh; make "
            "one of simulated devices: XLA_FLAGS=--xla_force_host_platform_device_count=N"
        )
    alone = compile_update(
        tx, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    )
    compiled = alone if mesh is None else compile_update(tx, params, mesh)
    counts, devices = count(compiled.text), mesh.size if mesh else 1
    matrices = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if (path_name(path) in alone.matrices if alone.matrices else len(leaf.shape) > 1)
    ]
    return UpdateCost(
        mesh=dict(mesh.shape) if mesh else {},
        flops=counts.flops,
        flops_exact=counts.exact,
        uncounted=tuple(sorted(counts.uncounted)),
        flops_bound=count(alone.text).flops / devices,
        collectives=tuple(counts.collectives.values()),
        received=received(counts),
        received_bound=sum((_least_received(leaf, devices) for leaf in matrices), 0.0),
        temporaries=compiled.temporaries,
        params=bytes_on_device(params),
        state=compiled.state,
        buckets=by_bucket(counts),
        calls=counts.calls,
    )


def cost_table(costs: dict[str, UpdateCost]) -> Table:
    """Return a table with one row for each optimizer."""
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    titles = ("optimizer", "Gflop", "of ideal", "received", "of bound", "temporaries", "state")
    for title in titles:
        table.add_column(title, justify="left" if title == "optimizer" else "right")
    table.add_column("collectives")
    first = next(iter(costs.values()))
    if first.seconds:
        table.add_column("time", justify="right")
    for name, cost in costs.items():
        of = lambda part, whole: f"{part / whole:.2f}" if whole else "-"
        table.add_row(
            name,
            in_gflop(cost),
            of(cost.flops, cost.flops_bound),
            decimal(round(cost.received)),
            of(cost.received, first.received_bound),
            decimal(cost.temporaries),
            decimal(cost.state),
            in_words(cost.collectives) or "none",
            *([f"{1e3 * cost.seconds:.3g} ms"] if first.seconds else []),
        )
    mesh = mesh_in_words(first.mesh) or "one device"
    table.caption = (
        f"For each device of {mesh}; parameters {decimal(first.params)}. Flops are those of matrix "
        f"products; ideal is one device's, divided. Bound is each matrix of the first optimizer "
        f"once to one device, and its update once back."
    )
    table.caption += _calls(costs)
    if first.seconds:
        table.caption += f" Time is the median of {ROUNDS} updates on this machine, run in turn; "
        table.caption += "what a step does rarely, such as a refresh, is not in it."
    if why := why_bounds(list(costs.values())):
        table.caption += f" {why}"
    return table


def _calls(costs: dict[str, UpdateCost]) -> str:
    """Return the calls of libraries in words; empty where there are none."""
    of_each = {
        name: ", ".join(f"{count} {function}" for function, count in sorted(cost.calls.items()))
        for name, cost in costs.items()
        if cost.calls
    }
    told = "; ".join(f"{name} {calls}".strip() for name, calls in of_each.items())
    return f" Calls of libraries: {told}." if told else ""


def in_gflop(cost: UpdateCost) -> str:
    """Return the flops as a reader sees them, with `>=` where they are a lower bound."""
    return f"{'' if cost.flops_exact else '>= '}{cost.flops / 1e9:.4g}"


def cycles_table(costs: Sequence[tuple[str, UpdateCost]]) -> Table:
    """Return a table of costs on topologies, with one row for each."""
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    titles = ("optimizer", "on", "Mcycles", "products", "Gflop", "operands", "received")
    for title in (*titles, "temporaries", "arguments", "compile"):
        table.add_column(title, justify="left" if title in ("optimizer", "on") else "right")
    table.add_column("collectives")
    for name, cost in costs:
        cycles = cost.cycles or Cycles()
        at_least = lambda exact: "" if exact else ">= "
        table.add_row(
            name,
            ", ".join(filter(None, (cost.on, mesh_in_words(cost.mesh)))),
            f"{at_least(cycles.exact)}{cycles.all / 1e6:.3g}",
            f"{cycles.products / max(1, cycles.all):.0%}",
            in_gflop(cost),
            _operands(cost),
            decimal(round(cost.received)),
            decimal(cost.temporaries),
            decimal(cost.arguments),
            f"{cost.compile_seconds:.0f} s",
            in_words(cost.collectives) or "none",
        )
    table.caption = (
        "For each device. Estimated by the TPU compiler, not timed; of collectives it tells no "
        "cycles. Products are the share of kernels that hold one. Operands are rounded to what is "
        "named."
    )
    if not all(cost.flops_exact and (cost.cycles or Cycles()).exact for _, cost in costs):
        table.caption += f" {why_bounds([cost for _, cost in costs])}"
    return table


def _operands(cost: UpdateCost) -> str:
    """Return what operands are rounded to, the most frequent first, with the shares of flops."""
    most = sorted(cost.arithmetic.items(), key=lambda pair: -pair[1])
    if len(most) < 2:
        return "".join(name for name, _ in most)
    return "\n".join(f"{name} {flops / cost.flops:.0%}" for name, flops in most)


def why_bounds(costs: list[UpdateCost]) -> str:
    """Explain the sign `>=`, where there is one; else nothing."""
    uncounted = sorted({name for cost in costs for name in cost.uncounted})
    reasons = [f"what {', '.join(uncounted)} takes is not counted"] if uncounted else []
    if not all(cost.flops_exact or cost.uncounted for cost in costs):
        reasons.append("of a loop that does not say how often it runs, one round is counted")
    return f"A number after >= is a lower bound: {'; '.join(reasons)}." if reasons else ""


def _on_topology(
    tx: optax.GradientTransformation, params: Any, mesh: Mesh | AbstractMesh | None, on: str
) -> UpdateCost:
    devices = devices_of(on)
    there = None if mesh is None else mesh_of(devices, mesh)
    alone = SingleDeviceSharding(devices[0])

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        spec = getattr(getattr(leaf, "sharding", None), "spec", PartitionSpec())
        sharding = alone if there is None else NamedSharding(there, spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    params = jax.tree.map(place, params)
    with compiling_for(devices):
        compiled = compile_update(tx, params, there, None if there is not None else alone)
    counts = count(compiled.text)
    return UpdateCost(
        mesh=dict(there.shape) if there is not None else {},
        flops=counts.flops,
        flops_exact=counts.exact,
        uncounted=tuple(sorted(counts.uncounted)),
        flops_bound=0.0,
        collectives=tuple(counts.collectives.values()),
        received=received(counts),
        received_bound=0.0,
        temporaries=compiled.temporaries,
        params=bytes_on_device(params),
        state=compiled.state,
        on=on,
        arguments=compiled.arguments,
        compile_seconds=compiled.seconds,
        cycles=count_cycles(compiled.text),
        arithmetic={ARITHMETIC_OF[name]: flops for name, flops in counts.precisions.items()},
        buckets=by_bucket(counts),
        calls=counts.calls,
    )


def _least_received(leaf: Any, devices: int) -> float:
    """Return the least bytes a device receives to own its share of whole matrices and give back.

    Of the `M / N` bytes that it owns it has, in `P` pieces of every matrix, the part `1 / P`. Of
    the `M / P` bytes that it has at home it has computed the part `1 / N`.
    """
    size = math.prod(leaf.shape) * leaf.dtype.itemsize
    spec: Sequence = getattr(getattr(leaf, "sharding", None), "spec", ())
    sizes = leaf.sharding.mesh.shape if spec else {}
    axes = [a for entry in spec for a in ((entry,) if isinstance(entry, str) else entry or ())]
    pieces = math.prod(sizes[axis] for axis in axes)
    return size / devices * (1 - 1 / pieces) + size / pieces * (1 - 1 / devices)
