"""Every Python block of README and docs runs, a page a namespace."""

import re
from pathlib import Path

import jax
import pytest

import gradsmith

ROOT = Path(__file__).parent.parent
BUILT = {"_build", "generated"}
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if not BUILT & set(page.parts)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    namespace = {"__name__": "__main__"}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "reference.md").read_text()
    named = set(re.findall(r"^   (\w+)$|^`(\w+)` is|; `(\w+)` are", page, re.MULTILINE))
    named = {name for names in named for name in names if name}
    modules = (gradsmith, gradsmith.matrix, gradsmith.checks, gradsmith.race)
    public = {
        name
        for module in modules
        for name in re.findall(r" as (\w+)$", Path(str(module.__file__)).read_text(), re.MULTILINE)
    }
    assert named == public - {"matrix", "checks", "race", "__version__"}


def test_every_page_is_on_the_site():
    """Sphinx warns of a page in no list, but Sphinx is run by `make docs` alone."""
    listed = {"index"}
    made = {"gallery/index"}  # of examples/gallery, by sphinx-gallery
    for page in PAGES:
        for block in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), re.DOTALL):
            listed |= {line for line in block.split("\n") if line and not line.startswith(":")}
    pages = {str(page.relative_to(ROOT / "docs"))[:-3] for page in PAGES if page.parent != ROOT}
    assert pages == listed - made
