"""`gradsmith cost`: what one update costs each device of a mesh."""

import contextlib
import dataclasses
import json as json_
import math
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import tyro
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from rich.console import Console

import gradsmith

from ..observe.hlo import Collective
from ..observe.update_cost import UpdateCost, cost_table, update_cost
from ..xla.simulate import simulated_devices
from .describe import abstract, transformation
from .loading import UsageError, load

Costs = dict[str, UpdateCost]

MOST_DEVICES = 4096  # 1,024 take a minute and 2 GB; 100,000 take all memory there is


def cost(
    optimizer: Annotated[str, tyro.conf.Positional],
    model: str = "gpt2",
    mesh: str = "",
    split: Literal["rows", "columns"] = "rows",
    arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    alone: bool = False,
    json: bool = False,
) -> int:
    """Show what one update costs each device, beside optax.contrib.muon and AdamW.

    Flops, bytes received, collectives and temporaries are read from the compiled programs. Nothing
    is allocated, and nothing runs; a mesh of more devices than there are is simulated on the CPU.

    Args:
        optimizer: A name such as `muon`, or `file.py:name` of a transformation or a factory of one.
        model: `gpt2`, or `file.py:name` of the parameters, or of a function that makes them.
        mesh: The axes of the mesh, `fsdp=8` or `fsdp=2,tensor=4`; one device by default. An axis
            called `data` splits no parameter; the first other splits what `split` says of each
            matrix, the second the other side, where the size divides.
        split: What the first axis splits.
        arg: `name=value` for the factory; may be repeated.
        alone: Leave out the two others.
        json: Print JSON instead of the table.
    """
    sizes = _sizes(mesh)
    request = (optimizer, model, sizes, split, arg, alone)
    enough = math.prod(sizes.values()) <= jax.device_count()
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own files print
        costs = _costs(*request) if enough else _simulated(*request)
    if json:
        print(json_.dumps({name: dataclasses.asdict(x) for name, x in costs.items()}, indent=2))
    else:
        # A line of it wraps nowhere: a pipe has no width, and the table is made to be read.
        Console(width=None if sys.stdout.isatty() else 140).print(cost_table(costs))
    return 0


def gpt2() -> Any:
    """Return the parameters of GPT-2 small: twelve layers, 124 million."""
    zeros = lambda *shape: jnp.zeros(shape, jnp.float32)
    norm = lambda: {"scale": zeros(768), "bias": zeros(768)}
    layer = lambda: {
        "norm_1": norm(),
        "attention_in": {"kernel": zeros(768, 2304), "bias": zeros(2304)},
        "attention_out": {"kernel": zeros(768, 768), "bias": zeros(768)},
        "norm_2": norm(),
        "mlp_in": {"kernel": zeros(768, 3072), "bias": zeros(3072)},
        "mlp_out": {"kernel": zeros(3072, 768), "bias": zeros(768)},
    }
    layers = {f"layer_{i}": layer() for i in range(12)}
    return {"wte": zeros(50257, 768), "wpe": zeros(1024, 768), **layers, "norm": norm()}


def _sizes(mesh: str) -> dict[str, int]:
    sizes = {}
    for part in filter(None, mesh.split(",")):
        found = re.fullmatch(r"\s*(\w+)=(\d+)\s*", part)
        if not found or int(found[2]) < 1 or found[1] in sizes:
            raise UsageError(f"--mesh takes axes once each, as fsdp=2,tensor=4; got {mesh!r}")
        sizes[found[1]] = int(found[2])
    if sum(axis != "data" for axis in sizes) > 2:
        raise UsageError(f"--mesh {mesh!r}: a matrix has two sides; besides data, give two axes")
    devices = math.prod(sizes.values())
    if devices > max(MOST_DEVICES, jax.device_count()):
        raise UsageError(
            f"--mesh {mesh!r} has {devices:,} devices; at most {MOST_DEVICES:,} are simulated; "
            "docs/scaling.md shows how to carry the costs on from there"
        )
    return sizes


def _costs(
    optimizer: str, model: str, sizes: dict[str, int], split: str, arg: tuple[str, ...], alone: bool
) -> Costs:
    params = abstract(gpt2 if model == "gpt2" else load(model), model)
    tx = transformation(optimizer, arg)
    optimizers = {optimizer: tx}
    if not alone:
        optimizers |= {"optax.contrib.muon": _contrib_muon(), "optax.adamw": optax.adamw(1.0)}
    costs = {}
    for name, tx in optimizers.items():
        try:
            costs[name] = _cost(tx, params, sizes, split)
        except Exception as error:
            if name == optimizer:
                raise UsageError(f"{name} does not compile: {error}") from error
            print(f"{name} is left out: {error}", file=sys.stderr)
    return costs


def _cost(
    tx: optax.GradientTransformation, params: Any, sizes: dict[str, int], split: str
) -> UpdateCost:
    """Return the cost on a mesh of Explicit axes, or on Auto ones for what knows no others."""
    if not sizes:
        return update_cost(tx, params)
    try:
        return update_cost(tx, _spread(params, sizes, split, AxisType.Explicit))
    except Exception:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Auto axes tell less
            return update_cost(tx, _spread(params, sizes, split, AxisType.Auto))


def _spread(params: Any, sizes: dict[str, int], split: str, kind: AxisType) -> Any:
    """Return the parameters with their shardings."""
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(kind,) * len(sizes))
    sides = (-2, -1) if split == "rows" else (-1, -2)

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        spec: list[str | None] = [None] * len(leaf.shape)
        for axis, side in zip([axis for axis in sizes if axis != "data"], sides, strict=False):
            if len(spec) > 1 and leaf.shape[side] % sizes[axis] == 0:
                spec[side] = axis
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(place, params)


def _contrib_muon() -> optax.GradientTransformation:
    """Return Optax's muon for the leaves that are hidden matrices for ours as well."""

    def dimensions(params: Any) -> Any:
        roles = gradsmith.roles(params).values()
        numbers = [
            optax.contrib.MuonDimensionNumbers() if role.name == "matrix" else None
            for role in roles
        ]
        return jax.tree.unflatten(jax.tree.structure(params), numbers)

    return optax.contrib.muon(1.0, muon_weight_dimension_numbers=dimensions)


def _simulated(*request: Any) -> Costs:
    """Compile in another process, where the CPU is as many devices as the mesh wants."""
    devices = math.prod(request[2].values())
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "costs.json"
        program = "import sys; from gradsmith.cli.cost import answer; answer(*sys.argv[1:])"
        command = [sys.executable, "-c", program, json_.dumps(request), str(answer)]
        environment = simulated_devices(devices)
        print(f"compiling for {devices:,} simulated devices ...", file=sys.stderr)
        ended = subprocess.run(command, env=environment, stdout=sys.stderr).returncode
        if ended:
            raise UsageError(
                f"the process that compiles ended with exit code {ended}; if memory ran out, ask "
                "for fewer devices"
            )
        told = json_.loads(answer.read_text())
    if "error" in told:
        raise UsageError(told["error"])
    return {name: _cost_of(fields) for name, fields in told["costs"].items()}


def answer(request: str, path: str) -> None:
    """Write the costs that the other process asks for."""
    with contextlib.suppress(ValueError):
        sys.path.remove("")
    optimizer, model, sizes, split, arg, alone = json_.loads(request)
    try:
        costs = _costs(optimizer, model, sizes, split, tuple(arg), alone)
        told = {"costs": {name: dataclasses.asdict(x) for name, x in costs.items()}}
    except UsageError as error:
        told = {"error": str(error)}
    Path(path).write_text(json_.dumps(told))


def _cost_of(fields: dict[str, Any]) -> UpdateCost:
    collectives = tuple(Collective(**x) for x in fields.pop("collectives"))
    return UpdateCost(**fields, collectives=collectives)
