"""The optimizers of the gallery: short, and right by the kit."""

import re
from pathlib import Path

import pytest

from gradsmith.checks import check_optimizer

FILES = sorted((Path(__file__).parents[1] / "examples" / "gallery").glob("plot_*.py"))


def optimizer_of(path):
    """Return the optimizer of a file, and its lines, without the race that the file ends with."""
    text = path.read_text()
    body, name = re.fullmatch(r"(.*)look\((\w+), \"[\w\- ]+\"\)\n", text, re.DOTALL).groups()
    body = body.replace("from small_race import look\n", "")
    namespace = {"__name__": path.stem}
    exec(compile(body, str(path), "exec"), namespace)
    return namespace[name], body.partition("import gradsmith as gs\n")[2]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_optimizer_of_the_gallery_is_short_and_right(path):
    optimizer, lines = optimizer_of(path)
    assert len([line for line in lines.splitlines() if line]) <= 20
    only = ["contract", "zero_grads", "one_zero_leaf", "descent_direction", "jit_equals_eager"]
    check_optimizer(optimizer, only=only)


def test_there_are_fifteen():
    assert len(FILES) == 15
