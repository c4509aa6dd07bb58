"""Every finding is confirmed by its reproducer, on the version it was found in."""

import contextlib
import importlib.metadata
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "findings"


def reproducers(text):
    return re.findall(r"^```py\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def findings():
    """The package, its version, and a reproducer, for each finding."""
    for code in reproducers((FOLDER / "optax.md").read_text()):
        yield "optax", "0.2.8", code
    _, *sections = re.split(r"^## ", (FOLDER / "third_party.md").read_text(), flags=re.MULTILINE)
    for section in sections:
        package, version = section.partition("\n")[0].split()
        for code in reproducers(section):
            yield package, version, code


FINDINGS = [
    pytest.param(*finding, id=f"{finding[0]}-{number}") for number, finding in enumerate(findings())
]


@pytest.mark.filterwarnings("default")  # those of other packages are theirs
@pytest.mark.parametrize(("package", "version", "code"), FINDINGS)
def test_a_reproducer_shows_what_it_says(package, version, code):
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if installed != version:
        pytest.skip(f"found in {package} {version}; installed is {installed}")
    *_, last = code.strip().splitlines()
    promised = last.rpartition("# ")[2]
    said = io.StringIO()
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        contextlib.redirect_stdout(said),
    ):
        try:
            exec(code, {"jax": jax, "jnp": jnp, "optax": optax})
        except Exception as error:
            said.write(f"{type(error).__name__}: {error}")
    assert promised in said.getvalue()
    assert len(code.strip().splitlines()) <= 3
