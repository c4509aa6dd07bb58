"""`gradsmith cost`: what one update costs each device of a mesh."""

import contextlib
import dataclasses
import json as json_
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

import gradsmith

from ..observe.update_cost import cost_table, cycles_table
from .cost_here import costs_here
from .cost_on import costs_on, shares_of_step
from .cost_page import cost_page
from .cost_request import CostRequest
from .loading import UsageError
from .parameters import axis_sizes
from .terminal import write_page


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
    if tokens and not on:
        raise UsageError("--tokens compares with a model's step on TPUs; say which: --on v5e:2x4")
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own files print
        request = CostRequest(optimizer, arg, alone, model, axis_sizes(mesh), split)
        params = request.params()
        rows = costs_on(request, params, on.split(",")) if on else costs_here(request, params, time)
        if html:
            named = {f"{name} for {one.on}" if on else name: one for name, one in rows}
            described = gradsmith.describe(request.transformation(), params)
            write_page(html, cost_page(named, model, described))
    if json:
        told = [(name, dataclasses.asdict(one)) for name, one in rows]
        listed = [{"optimizer": name, **one} for name, one in told]  # a name for every topology
        print(json_.dumps(listed if on else dict(told), indent=2))
        return 0
    table = cycles_table(rows) if on else cost_table(dict(rows))
    if tokens:
        table.caption = f"{table.caption} {shares_of_step(rows, params, tokens)}"
    # A line of it wraps nowhere: a pipe has no width, and the table is made to be read.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 0
