"""`gradsmith diff` on the command line: exit codes, words and JSON."""

import json

import pytest

from gradsmith.cli import UsageError
from gradsmith.cli.diff import diff


def test_equal_is_exit_code_0(capsys):
    assert diff("optax.sgd(learning_rate=0.1)", "optax.sgd(learning_rate=0.1, momentum=0.0)") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "are the same over 24 steps, but for rounding" in out


def test_different_is_exit_code_1_with_a_table_and_a_reason(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import jax.numpy as jnp, optax\n"
        "def mine(learning_rate):\n    return optax.sgd(2 * learning_rate)\n"
        "def params():\n    return {'w': jnp.zeros((3, 2)), 'b': jnp.zeros(2)}\n"
    )
    report = tmp_path / "report.json"
    code = diff("optax.sgd", f"{mine}:mine", params=f"{mine}:params", steps=5, json=report)
    assert code == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "the updates of mine, beside those of optax.sgd, are 2 times as large" in out
    assert "wherever they differ" in out
    told = json.loads(report.read_text())
    assert set(told["leaves"]) == {"w", "b"}
    assert told["steps"] == 5


@pytest.mark.parametrize(
    ("a", "says"),
    [
        ("optax.no_such", "optax has no 'no_such'"),
        ("optax.sgd(learning_rate=log(1, 2))", "diff takes values, not ranges"),
        ("optax.sgd(rate=0.1)", "has no parameter 'rate'"),
        ("optax.__version__", "neither a factory nor a transformation"),
    ],
)
def test_misuse_is_told(a, says):
    with pytest.raises(UsageError, match=says):
        diff(a, "optax.sgd")


def test_steps_that_are_none_are_misuse():
    with pytest.raises(UsageError, match="at least one step"):
        diff("optax.sgd", "optax.adam", steps=0)


def test_a_file_that_exits_is_misuse_and_no_success(tmp_path):
    file = tmp_path / "exits.py"
    file.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(UsageError, match=r"importing .*exits\.py failed: SystemExit: 0"):
        diff(f"{file}:make", "optax.sgd")
