"""The kit under pytest: ids, strict xfails, skips with reasons, errors for unknown names."""

import optax
import pytest

from gradsmith.checks import Subject, parametrize
from gradsmith.checks.bench import bench_of
from gradsmith.checks.metrics import measure

SUITE = """
import optax, jax.numpy as jnp, jax
from gradsmith.checks import Subject, parametrize

def widening():
    return optax.stateless(lambda u, p: jax.tree.map(lambda x: x.astype(jnp.float16), u))

@parametrize(
    Subject("sgd", optax.sgd, expected_failures={"state_stable": "not at all"}),
    Subject("widening", widening, expected_failures={"updates_like_params": "by design"}),
    only=["updates_like_params", "state_stable", "bf16", "zero_grads", "inject_learning_rate"],
)
def test_conforms(subject, check):
    check(subject)
"""


def test_each_check_is_a_named_test_with_strict_xfails(pytester_like):
    out = pytester_like(SUITE)
    assert "FAILED test_suite.py::test_conforms[sgd-state_stable] - [XPASS(strict)]" in out
    assert "xfailed" in out
    assert "blocked: updates_like_params did not pass" in out
    assert "1 failed, 5 passed, 3 skipped, 1 xfailed" in out


@pytest.fixture
def pytester_like(tmp_path):
    """Run pytest on a file in a process of its own; what it prints."""
    import subprocess
    import sys

    def run(source: str) -> str:
        (tmp_path / "test_suite.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout

    return run


def test_an_unknown_expected_failure_is_an_error():
    with pytest.raises(ValueError, match="no check is called 'donation'"):
        parametrize(Subject("sgd", optax.sgd, expected_failures={"donation": "x"}))


def test_two_subjects_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="subjects need different names"):
        parametrize(optax.sgd, optax.sgd)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize(("factory", "ratio"), [(optax.sgd, 0), (optax.lion, 1), (optax.adam, 2)])
def test_the_state_of_adam_is_twice_its_parameters(factory, ratio):
    metrics = measure(bench_of(Subject("subject", factory)))
    assert metrics["state_bytes_per_parameter_byte"] == ratio
    assert metrics["equations_per_leaf"] > 0
    assert metrics["compile_seconds"] > 0


def test_subjects_may_stand_in_a_list():
    mark = parametrize([Subject("one", optax.sgd), Subject("two", optax.lion)]).mark
    assert {case.values[0].name for case in mark.args[1]} == {"one", "two"}
