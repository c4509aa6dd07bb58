"""The modules of the race import each other without a circle, and shadow nothing known."""

import ast
import graphlib
import sys
from pathlib import Path

from gradsmith import race

FOLDER = Path(race.__file__).parent


def imports(path):
    """Yield the modules of the race's own folder that the file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and path.parent == FOLDER:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (name.split(".")[0] for name in names)


def test_no_module_of_the_race_imports_itself_by_a_detour():
    modules = {path.stem: set(imports(path)) for path in FOLDER.glob("[!_]*.py")}
    order = list(graphlib.TopologicalSorter(modules).static_order())
    assert order.index("errors") < order.index("run")


def test_no_module_of_the_race_has_the_name_of_one_of_python():
    assert not {path.stem for path in FOLDER.glob("*.py")} & sys.stdlib_module_names
