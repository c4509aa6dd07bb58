"""`gradsmith diff`: where two optimizers part, and what the difference looks like."""

import dataclasses
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import optax
import optax.contrib
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

import gradsmith

from ..checks import Difference, Subject
from ..checks import diff as difference_of
from ..checks.difference.entry import LIMIT, STEPS
from ..checks.difference.torch_side import TorchSide
from ..race import Range
from .json_file import write_json
from .loading import UsageError, bind, guarded_factory, load, made
from .parameters import abstract
from .race_spec import parse

if TYPE_CHECKING:
    from ..checks.difference.sides import Side

TORCH = "torch:"


def diff(
    a: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="A")],
    b: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="B")],
    /,
    params: str | None = None,
    steps: int = STEPS,
    seed: int = 0,
    limit: float = LIMIT,
    json: Path | None = None,
) -> int:
    """Run two optimizers side by side; exit code 0 if they are the same, 1 if not, 2 for misuse.

    Args:
        a: `muon(momentum=0.9)`, `optax.adam` or `file.py:factory`, with arguments or without; one
            of torch is `torch:torch.optim.Muon(lr=0.02)`. Without a learning rate it gets 0.01.
        b: What it is compared with.
        params: `file.py:name` of the parameters, or of a function that makes them. Shapes and names
            count. By default a small tree with matrices, vectors, an embedding and a head.
        steps: How many steps both make.
        seed: The seed of parameters and gradients.
        limit: Seconds after which no further explanation is tried.
        json: Where to write all of it.
    """
    tree = None if params is None else abstract(load(params), params)
    sides = _side(a), _side(b)
    try:
        found = difference_of(*sides, params=tree, steps=steps, seed=seed, limit=limit)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{a} and {b} cannot be compared: {error}") from error
    show(found, Console(highlight=False))
    write_json(json, found.to_json())
    return 0 if found.equal else 1


def show(found: Difference, console: Console) -> None:
    """Print the verdict, a table of leaves where they differ, and what explains it."""
    console.print(Text(found.headline, "bold green" if found.equal else "bold red"))
    if not found.equal:
        table = Table("leaf", "parts in step", "times rounding", "largest difference", box=None)
        for path, where in found.leaves.items():
            told = ["the same", "", ""]
            if where is not None:
                told = [str(where.step), f"{where.times_rounding:.2g}", f"{where.relative:.2%}"]
            table.add_row(path, *told, style="dim" if where is None else "")
        console.print(table)
    for finding in found.findings:
        everywhere = set(finding.leaves) == {path for path, where in found.leaves.items() if where}
        where = "wherever they differ" if everywhere else ", ".join(finding.leaves)
        says = f"{finding.says}{finding.remainder}\n"
        console.print(Text(says, "bold").append(f"  {where}", "dim"))
    if found.unexplained:
        leaves = ", ".join(found.unexplained)
        several = "it may differ in several things at once"
        console.print(Text(f"nothing that diff knows explains {leaves}: {several}", "yellow"))
    for note in found.notes:
        console.print(Text(note, "dim"))


def _side(text: str) -> "Subject | TorchSide | Side":
    spec = parse(text.removeprefix(TORCH))
    arguments = spec.fixed | spec.space
    if any(isinstance(value, Range) for value in arguments.values()):
        raise UsageError(f"{text}: diff takes values, not ranges")
    if text.startswith(TORCH):
        try:
            importlib.import_module("torch")
        except ImportError:
            raise UsageError(f"{text} needs torch: pip install 'gradsmith[torch]'") from None
        torch_factory = guarded_factory(load(spec.target))
        return TorchSide(torch_factory, spec.target.rpartition(":")[2], **arguments)
    found = load(spec.target, (gradsmith, optax, optax.contrib))
    if not isinstance(found, Subject | optax.GradientTransformation):
        if not callable(found):
            raise UsageError(f"{spec.target} is {found!r}, neither a factory nor a transformation")
        bind(found, [f"{key}={value!r}" for key, value in arguments.items()], spec.target)
        name = text if arguments else spec.target.rpartition(":")[2]
        found = Subject(name, found, arguments)
    elif not isinstance(found, Subject):
        found = Subject(spec.target.rpartition(":")[2], found)
    if found.is_factory:
        found = dataclasses.replace(found, factory=guarded_factory(found.factory))
    if found.missing_arguments:
        missing = ", ".join(f"{name}=..." for name in found.missing_arguments)
        raise UsageError(f"{text} wants arguments: {spec.target}({missing})")
    made(found.build, text)
    return found
