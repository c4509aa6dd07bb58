"""Pieces of a page: tables and what folds, with everything escaped."""

import ast
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


def table(heads: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    """A table that scrolls by itself where it is too wide; the first cell heads its line."""
    # End tags that HTML leaves to the reader are a fifth of a table of numbers.
    head = "".join(f'<th scope="col">{html.escape(text)}' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{html.escape(line[0])}'
        + "".join(f"<td>{html.escape(text)}" for text in line[1:])
        for line in lines
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def items(texts: Iterable[str]) -> str:
    """A list; empty where there is nothing to say."""
    lines = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f"<ul>{lines}</ul>" if lines else ""


def folded(summary: str, content: str) -> str:
    """What is shown on demand."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def code(text: str) -> str:
    """Text as it stands, which scrolls by itself."""
    return f'<pre tabindex="0">{html.escape(text)}</pre>'


def brief(source: str) -> str:
    """The source of a function, of whose docstring the first line is left."""
    try:
        function = ast.parse(source).body[0]
    except (SyntaxError, IndexError):  # a part of a file, such as a lambda within a call
        return source
    if not isinstance(function, ast.FunctionDef) or not (told := ast.get_docstring(function)):
        return source
    lines, at = source.splitlines(), function.body[0]
    first, _, rest = told.partition("\n")
    indent = lines[at.lineno - 1][: at.col_offset]
    if rest and indent.isspace():
        lines[at.lineno - 1 : at.end_lineno] = [f'{indent}"""{first} ..."""']
    return "\n".join(lines)


def data(value: Any) -> str:
    """JSON for the script of the page, whatever strings it holds."""
    text = json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'
