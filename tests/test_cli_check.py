"""`gradsmith check`: exit codes, and subjects that hang, print, raise or end their process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradsmith.cli import main
from gradsmith.cli.check import check, subject_from
from gradsmith.cli.loading import UsageError, transformation
from gradsmith.cli.race_entries import load_entries
from gradsmith.cli.watch import each_time_it_is_saved

RIGHT = Path(__file__).parent / "faulty" / "right.py"


_COMMAND = "import sys, tyro, gradsmith.cli.check as c; sys.exit(tyro.cli(c.check))"


@pytest.fixture
def write(tmp_path):
    def write(source: str) -> str:
        path = tmp_path / "optimizer.py"
        path.write_text("import os, time\nimport optax\n" + source)
        return f"{path}:make"

    return write


def test_the_right_version_exits_with_0(capfd):
    assert check(f"{RIGHT}:custom_optimizer", arg=("constant=0.95",), only=("contract",)) == 0
    assert "0 failed" in capfd.readouterr().out


def test_a_wrong_version_exits_with_1_and_names_the_edit(write, capfd, tmp_path):
    spec = write(
        "def make(lr):\n    return optax.GradientTransformation(optax.sgd(lr).init, "
        "lambda g, s: (g, s))\n"
    )
    assert check(spec, json=tmp_path / "report.json") == 1
    out = capfd.readouterr().out
    assert "def update_fn(updates, state, params=None):" in out
    assert json.loads((tmp_path / "report.json").read_text())["counts"]["failed"] == 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.py:make", "there is no file"),
        (f"{RIGHT}:custom_optimiser", "did you mean custom_optimizer"),
        ("optax.adm", "did you mean adam"),
        ("optax.__version__", "neither a factory nor a Subject"),
    ],
    ids=["no file", "no such name", "misspelt", "not a factory"],
)
def test_what_cannot_be_found_is_a_usage_error(spec, says):
    with pytest.raises(UsageError, match=says):
        check(spec)


def test_an_unknown_check_is_a_usage_error():
    with pytest.raises(UsageError, match="did you mean bf16"):
        check(f"{RIGHT}:custom_optimizer", only=("bf61",))


def test_an_unknown_argument_is_a_usage_error():
    with pytest.raises(UsageError, match=r"has no parameter 'constnt', .*; did you mean constant"):
        check(f"{RIGHT}:custom_optimizer", arg=("constnt=1",))


def test_a_file_that_ends_the_process_when_imported_is_a_usage_error(write):
    with pytest.raises(UsageError, match="importing it ended with exit code 7"):
        check(write("os._exit(7)\n"))


def test_a_factory_that_wants_an_argument_is_told_how_to_pass_it(write):
    with pytest.raises(UsageError, match="wants sharpness: pass each by --arg name=value"):
        subject_from(write("def make(lr, sharpness):\n    return optax.sgd(lr)\n"), {})


@pytest.mark.parametrize("formula", ["x / x.shape[1]", "0.5 * x"], ids=["fails", "takes a rate"])
def test_a_formula_is_told_as_one_by_other_commands(write, formula):
    spec = write(f"def make(x):\n    return {formula}\n")
    told = r"make: it is a formula for one matrix, .*gradsmith.per_matrix\(make\)"
    with pytest.raises(UsageError, match=told):
        transformation(spec, ())
    with pytest.raises(UsageError, match=told):
        load_entries([spec], (), ())


def test_a_factory_may_import_late_and_fork(write, capfd, tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("RATE = 0.1\n")
    spec = write(
        "def make(lr):\n    import helper_of_mine\n    os.fork()\n"
        "    return optax.sgd(lr * helper_of_mine.RATE)\n"
    )
    assert check(spec, only=("is_transformation", "update_signature")) == 0
    assert "2 ran, 2 passed" in capfd.readouterr().out


def test_a_fault_of_ours_is_no_verdict(monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("a fault of the kit")

    monkeypatch.setattr("gradsmith.cli.check.prefer_simulated_devices", broken)
    monkeypatch.setattr(sys, "argv", ["gradsmith", "check", "optax.adam"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "a fault of the kit" in capsys.readouterr().err


def test_a_factory_that_ends_the_process_fails_one_check_and_the_run_goes_on(write, capfd):
    source = "def make(lr):\n    os.write(1, b'noise')\n    os._exit(3)\n"
    assert check(write(source)) == 2
    out = capfd.readouterr().out
    assert "ended with exit code 3 (noise)" in out
    assert "1 failed" in out
    assert "blocked" in out


def test_a_factory_that_hangs_is_inconclusive(write, capfd):
    source = "def make(lr):\n    while True:\n        time.sleep(1)\n"
    assert check(write(source), only=("is_transformation",), limit=1.0) == 1
    out = capfd.readouterr().out
    assert "1 inconclusive" in out
    assert "no check ran" in out


@pytest.mark.parametrize("where", ["file", "factory", "update"])
def test_one_that_allocates_without_end_is_told_and_takes_nothing_along(write, capfd, where):
    end = {name: "fill()" if name == where else "0" for name in ("file", "factory", "update")}
    spec = write(
        "import numpy as np\n"
        "def fill():\n    kept = []\n    while True:\n        kept.append(np.zeros(2**30))\n"
        f"{end['file']}\n"
        f"def make(lr):\n    {end['factory']}\n    tx = optax.sgd(lr)\n"
        "    def update(updates, state, params=None):\n"
        f"        {end['update']}\n        return tx.update(updates, state)\n"
        "    return optax.GradientTransformation(tx.init, update)\n"
    )
    only = ("is_transformation", "params_default", "core_runs")
    if where == "file":
        with pytest.raises(UsageError, match="MemoryError"):
            check(spec, only=only)
        return
    assert check(spec, only=only) == 2
    out = capfd.readouterr().out
    assert "memory ran out" in out
    assert ("3 passed" in out) == (where == "update")


def test_a_subject_that_swallows_the_alarm_is_ended(write, capfd):
    source = (
        "def make(lr):\n    while True:\n        try:\n            time.sleep(60)\n"
        "        except BaseException:\n            pass\n"
    )
    assert check(write(source), only=("is_transformation",), limit=0.5) == 1
    assert "1 inconclusive" in capfd.readouterr().out


def test_the_command_prints_results_on_standard_output_and_exits_with_the_code(write):
    spec = write("def make(lr):\n    return 7\n")
    run = subprocess.run([sys.executable, "-c", _COMMAND, spec], capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "return optax.GradientTransformation(init_fn, update_fn)" in " ".join(run.stdout.split())


def test_a_worker_that_dies_after_its_last_check_loses_no_result(write, capfd):
    source = (
        "import traceback\n"
        "def make():\n"
        "    def update(updates, state, params=None):\n"
        "        if any(f.name == 'measure' for f in traceback.extract_stack()):\n"
        "            os._exit(5)\n"
        "        return updates, state\n"
        "    return optax.GradientTransformation(optax.init_empty_state, update)\n"
    )
    assert check(write(source), only=("no_recompile",)) == 0
    assert "0 failed" in capfd.readouterr().out


def test_the_model_of_the_user_is_checked_at_any_size(write, capfd):
    spec = write(
        "import jax, jax.numpy as jnp\n"
        "def make(lr):\n    return optax.sgd(lr, momentum=0.9)\n"
        "def model():\n"
        "    return {'w': jax.ShapeDtypeStruct((2**20, 2**16), jnp.float32), 'frozen': None}\n"
    )
    model = spec.replace(":make", ":model")
    assert check(spec, params=model, mesh="fsdp=4", only=("model",)) == 0
    out = capfd.readouterr().out
    assert "model" in out
    assert "✓ passed" in out
    with pytest.raises(UsageError, match="--mesh splits the parameters that --params names"):
        check(spec, mesh="fsdp=4")


def test_traits_and_expected_failures_are_said_on_the_command_line(write, capfd):
    spec = write(
        "def make(lr):\n    tx = optax.sgd(lr)\n"
        "    return tx._replace(update=lambda g, s, params: tx.update(g, s))\n"
    )
    assert check(spec, only=("params_default",)) == 1
    assert check(spec, only=("params_default",), expect=("params_default=it is old",)) == 0
    check(spec, only=("params_default",), trait=("needs_params",))
    assert "- does not apply" in capfd.readouterr().out
    with pytest.raises(UsageError, match="--expect takes check=reason"):
        check(spec, expect=("params_default",))
    with pytest.raises(UsageError, match="declares unknown traits"):
        check(spec, trait=("no_such",))


def test_failures_are_annotations_where_the_factory_stands(write, capfd):
    spec = write("def make(lr):\n    return 3\n")
    assert check(spec, only=("is_transformation",), format="github") == 2
    out = capfd.readouterr().out
    file = spec.rpartition(":")[0]
    assert f"::error file={file},line=3,title=is_transformation::" in out
    assert "%0A" in out


def test_the_checks_are_listed_and_explained(capsys):
    assert check(list=True) == 0
    assert "core_runs" in capsys.readouterr().out
    assert check(explain="donate") == 0
    out = capsys.readouterr().out
    assert "usual cause" in out
    assert "change to make" in out
    with pytest.raises(UsageError, match="did you mean donate"):
        check(explain="donat")
    with pytest.raises(UsageError, match="takes an optimizer"):
        check()


def test_watching_runs_again_after_a_change_alone(write, capsys):
    spec, codes, rounds = write("def make(lr):\n    return optax.sgd(lr)\n"), [], iter(range(4))
    path = Path(spec.rpartition(":")[0])

    def run():
        codes.append(len(codes))
        if len(codes) == 2:
            raise UsageError("half written")
        return 1

    def wait(seconds):
        at = next(rounds)
        if at in (0, 2):
            os.utime(path, ns=(at + 1, at + 1))
        if at == 3:
            raise KeyboardInterrupt

    assert each_time_it_is_saved(spec, run, wait) == 1
    assert codes == [0, 1, 2]
    assert "half written" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--watch needs a file"):
        each_time_it_is_saved("optax.adam", run)
