"""`gradsmith cost`: what one update costs each device of a mesh."""

import contextlib
import dataclasses
import json as json_
import math
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import optax
import optax.contrib
import tyro
from jax.sharding import AxisType
from rich.console import Console

import gradsmith

from ..layout.paths import leaves_with_path
from ..observe.bucket_cost import BucketCost
from ..observe.state_shardings import mesh_of_params, state_shapes
from ..observe.update_cost import UpdateCost, cost_table, cycles_table, update_cost
from ..observe.update_seconds import update_seconds
from ..xla.program.collectives import Collective
from ..xla.simulate import simulated_devices
from ..xla.topologies import NoCompilerError, devices_of
from .cost_page import cost_page
from .loading import UsageError, load, transformation
from .parameters import abstract, axis_sizes, gpt2, on_devices, spread
from .terminal import write_page

Costs = dict[str, UpdateCost]


def cost(
    optimizer: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OPTIMIZER")],
    model: str = "gpt2",
    mesh: str = "",
    split: Literal["rows", "columns"] = "rows",
    arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    alone: bool = False,
    time: bool = False,
    on: str = "",
    tokens: int = 0,
    json: bool = False,
    html: Path | None = None,
) -> int:
    """Show what one update costs each device, beside optax.contrib.muon and AdamW.

    Flops, bytes received, collectives and temporaries are read from the compiled programs. Nothing
    is allocated, and nothing runs unless `time` asks for it; a mesh of more devices than there are
    is simulated on the CPU.

    Args:
        optimizer: A name such as `muon`, or `file.py:name` of a transformation or a factory of one.
        model: `gpt2`, or `file.py:name` of the parameters, or of a function that makes them. Where
            they have a `NamedSharding`, on an `AbstractMesh` for instance, it is that mesh and
            layout that is priced.
        mesh: For parameters without one: the axes of the mesh, `fsdp=8` or `fsdp=2,tensor=4`; one
            device by default. An axis called `data` splits no parameter; the first other splits
            what `split` says of each matrix, the second the other side, where the size divides.
        split: What the first axis splits.
        arg: `name=value` for the factory; may be repeated.
        alone: Leave out the two others.
        time: Run updates too, the optimizers in turn, and show the median time of one. It needs
            memory for parameters, gradients and the states of all.
        on: TPUs to compile for, which need not be there: `v5e:2x4`, or several with commas. The
            table then shows the cycles that the TPU compiler estimates. Needs libtpu, and minutes.
        tokens: With `on`: the tokens of a step. Shows what an update is of the model's own flops,
            6 for each parameter and token.
        json: Print JSON instead of the table.
        html: A page to write as well: the costs as bars, and by bucket.
    """
    if time and on:
        raise UsageError("--time runs updates here, and --on compiles for elsewhere; choose one")
    if on:
        return _cost_on(
            optimizer, model, mesh, split, arg, alone, on.split(","), tokens, json, html
        )
    if tokens:
        raise UsageError("--tokens compares with a model's step on TPUs; say which: --on v5e:2x4")
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own files print
        costs = _costs(optimizer, model, axis_sizes(mesh), split, arg, alone, time)
        if html:
            _write_page(html, costs, model, optimizer, arg, _params(model, axis_sizes(mesh), split))
    if json:
        print(json_.dumps({name: dataclasses.asdict(x) for name, x in costs.items()}, indent=2))
    else:
        _show(cost_table(costs))
    return 0


def _write_page(
    html: Path, costs: Costs, model: str, optimizer: str, arg: tuple[str, ...], params: Any
) -> None:
    described = gradsmith.describe(transformation(optimizer, arg), params)
    write_page(html, cost_page(costs, model, described))


def _show(table: Any) -> None:
    # A line of it wraps nowhere: a pipe has no width, and the table is made to be read.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _costs(
    optimizer: str,
    model: str,
    sizes: dict[str, int],
    split: str,
    arg: tuple[str, ...],
    alone: bool,
    time: bool = False,
) -> Costs:
    params = _params(model, sizes, split)
    mesh = mesh_of_params(params)
    if mesh is not None and mesh.size > jax.device_count():
        if time:
            raise UsageError(
                f"--time runs updates, and there are {jax.device_count()} of {mesh.size} devices: "
                "give a smaller --mesh"
            )
        return _simulated(mesh.size, optimizer, model, sizes, split, arg, alone)
    run: list[tuple[optax.GradientTransformation, Any]] = []

    def price(tx: optax.GradientTransformation) -> UpdateCost:
        found, there = _cost(tx, params)
        run.append((tx, there))
        return found

    costs = _each(optimizer, arg, alone, params, price)
    return _timed(costs, dict(zip(costs, run, strict=True))) if time else costs


def _timed(costs: Costs, run: dict[str, tuple[optax.GradientTransformation, Any]]) -> Costs:
    try:
        seconds = update_seconds(run)
    except Exception as error:
        raise UsageError(f"an update does not run: {type(error).__name__}: {error}") from error
    return {name: dataclasses.replace(x, seconds=seconds[name]) for name, x in costs.items()}


def _params(model: str, sizes: dict[str, int], split: str) -> Any:
    return spread(abstract(gpt2 if model == "gpt2" else load(model), model), sizes, split)


def _each(optimizer: str, arg: tuple[str, ...], alone: bool, params: Any, price: Callable) -> Costs:
    """Price the optimizer, and the two others unless it is alone."""
    tx = transformation(optimizer, arg)
    makers = {optimizer: lambda: tx}
    if not alone:
        makers["optax.contrib.muon"] = lambda: _contrib_muon(tx, params)
        makers["optax.adamw"] = lambda: optax.adamw(1.0)
    costs = {}
    for name, make in makers.items():
        try:
            costs[name] = price(make())
        except Exception as error:
            if name == optimizer:
                raise UsageError(f"{name} does not compile: {error}") from error
            print(f"{name} is left out: {error}", file=sys.stderr)
    return costs


def _cost_on(
    optimizer: str,
    model: str,
    mesh: str,
    split: str,
    arg: tuple[str, ...],
    alone: bool,
    topologies: list[str],
    tokens: int,
    json: bool,
    html: Path | None,
) -> int:
    rows: list[tuple[str, UpdateCost]] = []
    with contextlib.redirect_stdout(sys.stderr):
        params = _params(model, axis_sizes(mesh), split)
        for topology in topologies:
            try:
                devices_of(topology)
            except (ValueError, NoCompilerError) as error:
                raise UsageError(str(error)) from error
            print(f"compiling for {topology}: minutes ...", file=sys.stderr)
            price = lambda tx, topology=topology: update_cost(tx, params, on=topology)
            rows += _each(optimizer, arg, alone, params, price).items()
        if html:
            named = {f"{name} for {one.on}": one for name, one in rows}
            _write_page(html, named, model, optimizer, arg, params)
    if json:
        told = [{"optimizer": name, **dataclasses.asdict(one)} for name, one in rows]
        print(json_.dumps(told, indent=2))
        return 0
    table = cycles_table(rows)
    if tokens:
        step = 6 * tokens * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
        shares = [
            f"{name} {one.flops * math.prod(one.mesh.values()) / step:.1%}" for name, one in rows
        ]
        table.caption = f"{table.caption} Of the flops of a step of {tokens:,} tokens: "
        table.caption += ", ".join(shares) + "."
    _show(table)
    return 0


def _cost(tx: optax.GradientTransformation, params: Any) -> tuple[UpdateCost, Any]:
    """Return the cost, and the parameters on devices; on Auto axes for what knows no others."""
    mesh = mesh_of_params(params)
    try:
        return update_cost(tx, there := on_devices(params)), there
    except Exception:
        if mesh is None or AxisType.Explicit not in mesh.axis_types:
            raise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Auto axes tell less
            there = on_devices(params, (AxisType.Auto,) * len(mesh.axis_names))
            return update_cost(tx, there), there


def _contrib_muon(tx: optax.GradientTransformation, params: Any) -> optax.GradientTransformation:
    """Return Optax's muon for the matrices that `tx` lifts, or else for those that ours would."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    axes = state_shapes(tx, shapes)[1].axes or state_shapes(gradsmith.muon(1.0), shapes)[1].axes

    def dimensions(params: Any) -> Any:
        numbers = []
        for path, leaf in leaves_with_path(params):
            _, rows, columns = axes[path].sides(len(leaf.shape)) if path in axes else ((), (), ())
            numbers.append(optax.contrib.MuonDimensionNumbers(rows, columns) if rows else None)
        return jax.tree.unflatten(jax.tree.structure(params), numbers)

    cut = [path for path, own in axes.items() if own.cut_axis is not None]
    if cut:
        more = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
        print(
            f"optax.contrib.muon cannot cut a leaf; it takes {cut[0]}{more} whole", file=sys.stderr
        )
    return optax.contrib.muon(1.0, muon_weight_dimension_numbers=dimensions)


def _simulated(devices: int, *request: Any) -> Costs:
    """Compile in another process, where the CPU is as many devices as the mesh wants."""
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
        told = json_.loads(answer.read_text(encoding="utf-8"))
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
    Path(path).write_text(json_.dumps(told), encoding="utf-8")


def _cost_of(fields: dict[str, Any]) -> UpdateCost:
    collectives = tuple(Collective(**x) for x in fields.pop("collectives"))
    uncounted = tuple(fields.pop("uncounted"))
    buckets = tuple(map(_bucket_of, fields.pop("buckets")))
    return UpdateCost(**fields, collectives=collectives, uncounted=uncounted, buckets=buckets)


def _bucket_of(fields: dict[str, Any]) -> BucketCost:
    return BucketCost(
        **{**fields, "collectives": tuple(Collective(**x) for x in fields["collectives"])}
    )
