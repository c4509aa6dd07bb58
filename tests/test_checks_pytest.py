"""The kit under pytest: ids, strict xfails, skips with reasons, errors for unknown names."""

import subprocess
import sys

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

    def run(source: str, *options: str) -> str:
        (tmp_path / "test_suite.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", *options]
        ended = subprocess.run(
            [*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
        )
        return ended.stdout + ended.stderr

    return run


MINE = """
import optax

def opt(learning_rate):
    tx = optax.sgd(learning_rate)
    return tx._replace(update=lambda g, s, params: tx.update(g, s))
"""


def test_the_option_makes_a_test_of_each_check(pytester_like, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "pyproject.toml").write_text(
        "[tool.gradsmith.check.'mine.py:opt']\nexpected_failures = { zero_grads = 'no' }\n"
    )
    chosen = "params_default or zero_grads or test_of_my_own"
    options = ("-p", "gradsmith_pytest", "--gradsmith", "mine.py:opt", "-k", chosen)
    out = pytester_like("def test_of_my_own():\n    pass\n", *options)
    assert "FAILED mine.py:opt::params_default" in out
    assert "def update_fn(updates, state, params=None):" in out
    assert "FAILED mine.py:opt::zero_grads - [XPASS(strict)] no" in out
    assert "in assert_passes" not in out  # no traceback through the kit
    assert "2 failed, " in out
    misspelt = pytester_like("", "-p", "gradsmith_pytest", "--gradsmith", "mine.py:opd")
    assert "ERROR: --gradsmith mine.py:opd: mine.py:opd: mine has no 'opd'; did you mean opt?" in (
        misspelt
    )


def test_a_session_without_the_option_does_not_load_jax(tmp_path):
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('gradsmith_pytest')\n"
        "    assert not {'jax', 'gradsmith'} & {*sys.modules}\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "gradsmith_pytest", "-p", "no:cacheprovider"]
    assert subprocess.run([*command, str(tmp_path)], cwd=tmp_path).returncode == 0


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
