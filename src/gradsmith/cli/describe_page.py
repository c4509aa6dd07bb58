"""`gradsmith describe --html`: who optimizes what, as a map of the state."""

import html
import math
from collections.abc import Sequence

from rich.filesize import decimal

from ..observe.description import COLUMNS, Description, LeafDescription, how_many
from ..race.page.document import document
from ..race.page.markup import folded, items, table
from ..race.page.treemap import Leaf, treemap


def describe_page(description: Description, optimizer: str, params: str) -> str:
    """The whole page.

    Args:
        description: What is shown.
        optimizer: As it was typed.
        params: As they were typed.
    """
    owners = _owners(description.leaves)
    by_state = any(leaf.state_bytes for leaf in description.leaves)
    area = "bytes of state" if by_state else "bytes of the parameters, for nothing keeps a state"
    drawn = [
        Leaf(leaf.path, _area(leaf, by_state), owners.index(leaf.optimizer), _words(leaf))
        for leaf in description.leaves
    ]
    legend = [_owner(description.leaves, number, who) for number, who in enumerate(owners)]
    told = " ".join(_total(description.leaves, who) + "." for who in owners)
    remarks = items(description.remarks)
    lines = [[text(leaf) for text in COLUMNS.values()] for leaf in description.leaves]
    body = (
        f'<p class="lead">{html.escape(description.summary())}</p>'
        + (f'<section class="trouble"><h2>Look at</h2>{remarks}</section>' if remarks else "")
        + '<section><h2>Who optimizes what</h2><ul class="legend">'
        + "".join(legend)
        + "</ul><figure>"
        + treemap("map", drawn, f"The leaves of {params} under {optimizer}", told)
        + f"<figcaption>A rectangle is a leaf, its area the {area}.</figcaption></figure></section>"
        + folded("Every leaf", table(list(COLUMNS), lines, f"Every leaf of {params}"))
    )
    title = f"{optimizer} on {params}"
    return document(title, body, "gradsmith describe --html", len(owners))


def _owners(leaves: Sequence[LeafDescription]) -> list[str]:
    """Who optimizes anything, the largest state first."""
    kept: dict[str, int] = {}
    for leaf in leaves:
        kept[leaf.optimizer] = kept.get(leaf.optimizer, 0) + leaf.state_bytes
    return sorted(kept, key=lambda who: -kept[who])


def _area(leaf: LeafDescription, by_state: bool) -> int:
    return leaf.state_bytes if by_state else math.prod(leaf.shape)


def _owner(leaves: Sequence[LeafDescription], number: int, who: str) -> str:
    box = f'<span class="e{number} box" aria-hidden="true"></span>'
    return f"<li>{box} {html.escape(_total(leaves, who))}</li>"


def _total(leaves: Sequence[LeafDescription], who: str) -> str:
    own = [leaf for leaf in leaves if leaf.optimizer == who]
    params = sum(math.prod(leaf.shape) for leaf in own)
    state = decimal(sum(leaf.state_bytes for leaf in own))
    return f"{who}: {how_many(len(own), 'leaf', 'leaves')}, {params:,} parameters, {state} of state"


def _words(leaf: LeafDescription) -> str:
    role = f", {leaf.role}" if leaf.role else ""
    return (
        f"{leaf.path}: {leaf.dtype} {leaf.shape}{role}; {leaf.optimizer}; "
        f"{decimal(leaf.state_bytes)} of state"
    )
