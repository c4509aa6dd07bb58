"""A report as annotations of a pull request on GitHub."""

import ast
from collections.abc import Iterator
from pathlib import Path

from ..checks import Report, Result


def annotations(report: Report, spec: str) -> Iterator[str]:
    """Return one workflow command for each failure and each remark.

    They stand at the definition of the factory, where `spec` is `file.py:factory`.
    """
    place = _place(spec)
    for result in report.failures:
        yield _command("error", place, result)
    for result in report.remarks:
        yield _command("warning", place, result)
    for result in report.not_judged:
        if result.outcome == "inconclusive":
            yield _command("warning", place, result)


def _command(level: str, place: str, result: Result) -> str:
    advice = result.advice
    told = result.reason if advice is None else f"{advice.seen}\n{advice.change}"
    return f"::{level} {place}title={_property(result.check)}::{_data(told)}"


def _place(spec: str) -> str:
    path, colon, name = spec.rpartition(":")
    if not colon:
        return ""
    lines = [
        node.lineno
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
    ]
    line = f",line={lines[0]}" if lines else ""
    return f"file={_property(path)}{line},"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
