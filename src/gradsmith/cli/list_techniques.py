"""`gradsmith list`: the catalogue."""

import json as json_module
from typing import Literal

from rich.console import Console
from rich.padding import Padding
from rich.text import Text


def list_techniques(
    kind: Literal["all", "optimizers", "parts"] = "all", json: bool = False, markdown: bool = False
) -> int:
    """Show what there is: state, cost, evidence and paper of every optimizer and part.

    State is in elements for a matrix `(m, n)`, `m < n`. GFLOP are those of the products of one
    update of a 768 x 3072 matrix. Mcycles are million cycles of it that the compiler for a TPU v5e
    estimates. Tier 1 is replicated or in production, 2 has one strong independent source.

    Args:
        kind: Optimizers, parts, or all.
        json: Print one JSON object a line.
        markdown: Print the table of docs/catalogue.md.
    """
    from ..catalogue import COLUMNS, TECHNIQUES, as_markdown, rows

    if markdown:
        print(as_markdown())
        return 0
    wanted = {"all": (True, False), "optimizers": (True,), "parts": (False,)}[kind]
    shown = [
        row
        for technique, row in zip(TECHNIQUES, rows(), strict=True)
        if (technique.kind == "optimizer") in wanted
    ]
    if json:
        for row in shown:
            print(json_module.dumps(dict(zip(COLUMNS, row, strict=True))))
        return 0
    console = Console()
    for name, line, stands, state, flops, cycles, travels, tier, paper in shown:
        facts = (
            state and f"state {state}",
            flops and f"{flops} GFLOP",
            cycles and f"{cycles} Mcycles",
            travels and f"{travels} travel",
            stands and f"stands {stands}",
            tier and f"tier {tier}",
            paper,
        )
        console.print(Text.assemble((name, "bold"), f"  {line}"))
        console.print(Padding(Text("; ".join(filter(None, facts))), (0, 0, 1, 4)))
    return 0
