"""Every finding in Optax is confirmed by its reproducer, on the version it was found in."""

import contextlib
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "findings" / "optax.md"
REPRODUCERS = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(optax.__version__ != "0.2.8", reason="the findings are about optax 0.2.8")
@pytest.mark.parametrize("code", REPRODUCERS, ids=range(len(REPRODUCERS)))
def test_a_reproducer_shows_what_it_says(code):
    *_, last = code.strip().splitlines()
    promised = last.rpartition("# ")[2]
    said = io.StringIO()
    with jax.numpy_dtype_promotion("standard"), contextlib.redirect_stdout(said):
        try:
            exec(code, {"jax": jax, "jnp": jnp, "optax": optax})
        except Exception as error:
            said.write(f"{type(error).__name__}: {error}")
    assert promised in said.getvalue()
    assert len(code.strip().splitlines()) == 3
