"""Each fault of the wrong optimizer, alone, gets one diagnosis that names the edit."""

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import pytest

from gradsmith.checks import Report, check_optimizer

RIGHT = Path(__file__).parent / "faulty" / "right.py"


class Fault(NamedTuple):
    """An edit of the right version; what the diagnosis must say; the check that says it."""

    old: str
    new: str
    check: str
    says: str


SIGNATURE = "def update_fn(updates, state, params=None):"
FAULTS = {
    "three values": Fault(
        "return updates, CustomOptState(evolving)",
        "return updates, CustomOptState(evolving), constant",
        "core_runs",
        "end .* with `return updates, new_state`",
    ),
    "one value": Fault(
        "return updates, CustomOptState(evolving)", "return updates", "core_runs", ""
    ),
    "no params": Fault(
        f"{SIGNATURE}\n        del params",
        "def update_fn(updates, state):",
        "update_signature",
        "write `def update_fn.updates, state, params=None.:`",
    ),
    "params without default": Fault(
        "params=None",
        "params",
        "params_default",
        "write `def update_fn.updates, state, params=None",
    ),
    "whole tree": Fault(
        "jax.tree.map(lambda x: matrix_ops(x) if x.ndim == 2 else x, evolving)",
        "matrix_ops(evolving)",
        "core_runs",
        "called on the whole tree.*jax.tree.map.lambda x: matrix_ops",
    ),
    "every leaf": Fault(" if x.ndim == 2 else x", "", "core_runs", "called on a leaf that is none"),
    "undefined name": Fault(
        "CustomOptState(evolving)", "CustomOptState(evolvin)", "core_runs", "write `evolving` for"
    ),
    "no such name": Fault("matrix_ops(x) if", "zeropower(x) if", "core_runs", "import `zeropower`"),
    "not a transformation": Fault(
        "return optax.GradientTransformation(init_fn, update_fn)",
        "return init_fn, update_fn",
        "is_transformation",
        "return optax.GradientTransformation.init_fn, update_fn",
    ),
}


def load(source: str, path: Path):
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("factory", ["custom_optimizer", "alone"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_alone_gets_one_diagnosis_that_names_the_edit(fault, factory, tmp_path):
    old, new, check, says = FAULTS[fault]
    source = RIGHT.read_text()
    assert old in source
    module = load(source.replace(old, new), tmp_path / "wrong.py")
    report = check_optimizer(getattr(module, factory), tier="must", on_failure="return")
    assert [result.check for result in report.failures] == [check]
    assert re.search(says, str(report), re.DOTALL), str(report)
    assert "wrong.py" in str(report)


@pytest.mark.parametrize("factory", ["custom_optimizer", "alone"])
def test_the_right_version_passes(factory, tmp_path):
    module = load(RIGHT.read_text(), tmp_path / "right.py")
    report = check_optimizer(getattr(module, factory))
    assert isinstance(report, Report)
    assert report.ok, str(report)
    assert report.counts["failed"] == 0


def rows_of_length_one(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def doubled(x):
    return 2 * x


@pytest.mark.parametrize("formula", [rows_of_length_one, doubled])
def test_a_formula_in_the_place_of_a_factory_is_told_how_to_become_one(formula):
    report = check_optimizer(formula, on_failure="return", only=["is_transformation"])
    (failure,) = report.failures
    assert "a formula for one matrix" in failure.advice.cause
    assert f"gradsmith.per_matrix({formula.__name__})" in failure.advice.change


def test_a_factory_that_fails_is_no_formula():
    report = check_optimizer(
        lambda learning_rate: learning_rate.shape, on_failure="return", only=["is_transformation"]
    )
    (failure,) = report.failures
    assert "formula" not in failure.advice.cause
