"""`gradsmith describe` and `gradsmith --version`, as they are typed."""

import sys
import textwrap

import pytest

from gradsmith import __version__
from gradsmith.cli import main

MINE = """
    import jax.numpy as jnp, optax

    def mine(learning_rate, momentum=0.0, weight_decay=0.0):
        assert (momentum, weight_decay) == (0.5, 0.25)
        return optax.sgd(learning_rate, momentum)

    def params():
        return {"w": jnp.zeros((2, 3))}
"""


@pytest.fixture
def gradsmith(tmp_path, monkeypatch, capfd):
    """Run `gradsmith ...` beside `mine.py`; return exit code and stdout."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradsmith", *arguments])
        try:
            main()
        except SystemExit as exit_:
            return exit_.code, capfd.readouterr().out
        return 0, capfd.readouterr().out

    return run


def test_every_argument_reaches_the_factory(gradsmith):
    command = ("describe", "mine.py:mine", "mine.py:params")
    code, out = gradsmith(*command, "--arg", "momentum=0.5", "--arg", "weight_decay=0.25")
    assert code == 0
    assert "float32 (2, 3)" in out


@pytest.mark.parametrize("command", ["describe", "cost", "check"])
def test_two_values_of_one_argument_are_refused(gradsmith, command):
    asked = [command, "mine.py:mine", *["mine.py:params"][command == "check" :]]
    code, out = gradsmith(*asked, "--arg", "momentum=0.5", "--arg", "momentum=0.6")
    assert (code, out) == (2, "")


def test_the_version_is_told(gradsmith):
    assert gradsmith("--version") == (0, f"gradsmith {__version__}\n")
