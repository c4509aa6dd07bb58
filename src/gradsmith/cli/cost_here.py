"""Price updates on the devices that are there, or on as many simulated ones as a mesh has."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import AxisType

from ..observe.bucket_cost import BucketCost
from ..observe.state_shardings import mesh_of_params
from ..observe.update_cost import UpdateCost, update_cost
from ..observe.update_seconds import update_seconds
from ..xla.program.collectives import Collective
from ..xla.simulate import simulated_devices
from .cost_request import CostRequest, Costs
from .loading import UsageError
from .parameters import on_devices


def costs_here(request: CostRequest, params: Any, time: bool = False) -> Costs:
    """Return what updates cost; with `time`, run them too."""
    mesh = mesh_of_params(params)
    if mesh is not None and mesh.size > jax.device_count():
        if time:
            raise UsageError(
                f"--time runs updates, and there are {jax.device_count()} of {mesh.size} devices: "
                "give a smaller --mesh"
            )
        return _simulated(mesh.size, request)
    run: list[tuple[optax.GradientTransformation, Any]] = []

    def price(tx: optax.GradientTransformation) -> UpdateCost:
        found, there = _cost(tx, params)
        run.append((tx, there))
        return found

    costs = request.priced(params, price)
    return _timed(costs, run) if time else costs


def _timed(costs: Costs, run: list[tuple[optax.GradientTransformation, Any]]) -> Costs:
    names = [name for name, _ in costs]
    try:
        seconds = update_seconds(dict(zip(names, run, strict=True)))
    except Exception as error:
        raise UsageError(f"an update does not run: {type(error).__name__}: {error}") from error
    return [(name, dataclasses.replace(x, seconds=seconds[name])) for name, x in costs]


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


def _simulated(devices: int, request: CostRequest) -> Costs:
    """Compile in another process, where the CPU is as many devices as the mesh wants."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "costs.json"
        program = "import sys; from gradsmith.cli.cost_here import answer; answer(*sys.argv[1:])"
        command = [sys.executable, "-c", program, json.dumps(request), str(answer)]
        environment = simulated_devices(devices)
        print(f"compiling for {devices:,} simulated devices ...", file=sys.stderr)
        ended = subprocess.run(command, env=environment, stdout=sys.stderr).returncode
        if ended:
            raise UsageError(
                f"the process that compiles ended with exit code {ended}; if memory ran out, ask "
                "for fewer devices"
            )
        told = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in told:
        raise UsageError(told["error"])
    return [(name, _cost_of(fields)) for name, fields in told["costs"]]


def answer(request: str, path: str) -> None:
    """Write the costs that the other process asks for."""
    with contextlib.suppress(ValueError):
        sys.path.remove("")
    optimizer, arg, *others = json.loads(request)
    asked = CostRequest(optimizer, tuple(arg), *others)
    try:
        costs = costs_here(asked, asked.params())
        told = {"costs": [(name, dataclasses.asdict(x)) for name, x in costs]}
    except UsageError as error:
        told = {"error": str(error)}
    Path(path).write_text(json.dumps(told), encoding="utf-8")


def _cost_of(fields: dict[str, Any]) -> UpdateCost:
    collectives = tuple(Collective(**x) for x in fields.pop("collectives"))
    uncounted = tuple(fields.pop("uncounted"))
    buckets = tuple(map(_bucket_of, fields.pop("buckets")))
    return UpdateCost(**fields, collectives=collectives, uncounted=uncounted, buckets=buckets)


def _bucket_of(fields: dict[str, Any]) -> BucketCost:
    return BucketCost(
        **{**fields, "collectives": tuple(Collective(**x) for x in fields["collectives"])}
    )
