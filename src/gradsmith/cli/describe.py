"""`gradsmith describe`: who optimizes which leaf, and why."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

import gradsmith

from .describe_page import describe_page
from .loading import UsageError, guarded, load, transformation
from .parameters import abstract
from .terminal import write_page


def describe(
    optimizer: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OPTIMIZER")],
    params: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PARAMS")],
    arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    json: bool = False,
    html: Path | None = None,
) -> int:
    """Show role, axes, bucket, optimizer and state of every leaf of a model.

    Nothing is allocated: the parameters are made abstractly, so the model may have any size.

    Args:
        optimizer: A name such as `muon`, or `file.py:name` of a transformation or a factory of one.
        params: `file.py:name` of the parameters, or of a function that makes them.
        arg: `name=value` for the factory; may be repeated.
        json: Print JSON instead of the table.
        html: A page to write as well: a map of the state, coloured by who optimizes what.
    """
    tree = abstract(load(params), params)
    tx = transformation(optimizer, arg)
    try:
        with guarded():
            description = gradsmith.describe(tx, tree)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{optimizer} cannot be initialised with {params}: {error}") from error
    if html:
        write_page(html, describe_page(description, optimizer, params))
    if json:
        print(description.to_json())
    elif sys.stdout.isatty():
        Console().print(description)
    else:
        print(description)
    return 0
