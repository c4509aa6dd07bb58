"""`gradsmith new` writes a file that passes its own tests and the check kit at once."""

import subprocess
import sys

import pytest

from gradsmith.cli.check import check
from gradsmith.cli.loading import UsageError
from gradsmith.cli.new import new


def test_what_it_writes_passes_the_check_kit(tmp_path, capfd):
    assert new("steep", out=tmp_path) == 0
    assert check(f"{tmp_path}/steep.py:steep", tier="must") == 0, capfd.readouterr().out


def test_what_it_writes_passes_its_own_tests(tmp_path, capfd):
    new("steep", out=tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "steep.py"]
    run = subprocess.run(
        [*command, "-k", "contract or core_runs or zero_grads or unit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert "passed" in run.stdout
    assert "failed" not in run.stdout


def test_it_names_everything_as_asked(tmp_path, capsys):
    new("steep", out=tmp_path)
    text = (tmp_path / "steep.py").read_text()
    assert "def steep(learning_rate" in text
    assert "my_optimizer" not in text
    assert capsys.readouterr().out == f"{tmp_path}/steep.py\n"


def test_a_file_that_exists_is_left_alone(tmp_path):
    (tmp_path / "steep.py").write_text("mine")
    with pytest.raises(UsageError, match="exists; take another name"):
        new("steep", out=tmp_path)
    assert (tmp_path / "steep.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["my-optimizer", "class", "a/b"])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match="is no Python name"):
        new(name, out=tmp_path)


def test_a_folder_that_does_not_exist_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="No such file or directory"):
        new("steep", out=tmp_path / "nowhere")
