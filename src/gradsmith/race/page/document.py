"""A whole page: one HTML file that loads nothing, in light and dark."""

import html
import string
from importlib import resources

from ..style import MARKERS, style


def document(title: str, body: str, command: str, hues: int, script: str = "") -> str:
    """A page with the style of all pages.

    Args:
        title: Its heading as well.
        body: HTML.
        command: What has made it.
        hues: How many things are told apart by a colour: the classes `e0`, `e1`, ... have it as
            `--c`.
        script: What makes the figures answer; they stand without it.
    """
    return string.Template(resource("document.html")).substitute(
        title=html.escape(title),
        style=resource("report.css") + _hues(hues),
        body=body,
        command=html.escape(command),
        script=f"<script>\n{script}</script>" if script else "",
    )


def report_script() -> str:
    """The script of the report."""
    markers = [marker for marker, _ in MARKERS]
    return f"const MARKERS = {markers};\n{resource('report.js')}"


def resource(name: str) -> str:
    """A file of this folder."""
    return resources.files("gradsmith.race").joinpath("page", name).read_text(encoding="utf-8")


def _hues(count: int) -> str:
    """The colours, on light and on dark paper."""
    light, dark = (
        "".join(f".e{n}{{--c:{getattr(style(n), paper)}}}" for n in range(count))
        for paper in ("light", "dark")
    )
    return f"{light}@media screen and (prefers-color-scheme: dark){{{dark}}}"
