"""What `make package` built has everything, and works where the checkout is not."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

LINK = re.compile(r"\]\((.*?)\)")
ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
SOURCE = ROOT / "src"
DATA = "gradsmith/race/data"
PROJECT = (ROOT / "pyproject.toml").read_text()


def built(ending):
    [archive] = DIST.glob(f"gradsmith-*{ending}")
    return archive


@pytest.fixture(scope="module")
def wheel():
    """The sizes of its files."""
    with zipfile.ZipFile(built(".whl")) as archive:
        return {file.filename: file.file_size for file in archive.infolist()}


def pythons():
    """Those of the versions that gradsmith supports which are on this machine."""
    found = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
    works = lambda path: subprocess.run([path, "--version"], capture_output=True).returncode == 0
    return [path for path in found if path and works(path)]


INSTALLED = [(".tar.gz", sys.executable), *((".whl", path) for path in pythons())]


@pytest.fixture(scope="module", params=INSTALLED, ids=lambda pair: f"{pair[0]} {pair[1]}")
def installed(request, tmp_path_factory):
    """A command in an environment that has an archive, what it requires, and pytest."""
    archive, python = request.param
    folder = tmp_path_factory.mktemp("clean")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"XLA_FLAGS": "", "PYTHONSAFEPATH": "1"}

    def run(program, *arguments):
        path = folder / "bin" / program
        return subprocess.run(
            [path, *arguments], cwd=folder, env=env, capture_output=True, text=True
        )

    subprocess.run([python, "-m", "venv", folder], check=True)
    with_versions = ["--constraint", str(ROOT / "constraints.txt")]
    ended = run("pip", "install", "--quiet", *with_versions, str(built(archive)), "pytest")
    assert ended.returncode == 0, ended.stderr
    return run


def test_the_wheel_has_every_file_of_the_source(wheel):
    files = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".pyi")
    }
    in_wheel = {name for name in wheel if ".dist-info/" not in name}
    assert in_wheel == files


def test_the_wheel_has_data_licences_and_types(wheel):
    assert {
        "gradsmith/py.typed",
        "gradsmith/race/page/report.css",
        "gradsmith/race/page/report.js",
        f"{DATA}/LICENSES.md",
        f"{DATA}/shakespeare.txt.xz",
    } <= set(wheel)
    ends = {name.partition(".dist-info/")[2] for name in wheel}
    assert {"licenses/LICENSE", f"licenses/src/{DATA}/LICENSES.md", "entry_points.txt"} <= ends
    assert not [name for name in wheel if "/tests/" in name or Path(name).name.startswith("test_")]


def test_the_links_of_the_readme_lead_somewhere_from_pypi():
    with zipfile.ZipFile(built(".whl")) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        _, _, page = archive.read(name).decode().partition("\n\n")
    readme = (ROOT / "README.md").read_text()
    assert LINK.sub("", page) == LINK.sub("", readme)
    tag = "v" + built(".whl").name.split("-")[1]
    files = f"https://github.com/gradsmith/gradsmith/blob/{tag}/"
    pictures = f"https://raw.githubusercontent.com/gradsmith/gradsmith/{tag}/"
    ours = 0
    for there, here in zip(LINK.findall(page), LINK.findall(readme), strict=True):
        if here.startswith("https://"):
            assert there == here
        else:
            ours += 1
            assert there == (pictures if here.endswith(".png") else files) + here
    assert ours > 10


@pytest.mark.parametrize("extra", tomllib.loads(PROJECT)["project"]["optional-dependencies"])
def test_an_extra_resolves_alone(extra):
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "compile", ROOT / "pyproject.toml", "--extra", extra, "--quiet"]
    ended = subprocess.run([*command, "--no-header"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^jax==", ended.stdout, re.MULTILINE)


def test_every_data_file_has_its_licence(wheel):
    licences = (SOURCE / DATA / "LICENSES.md").read_text()
    data = [Path(name).name for name in wheel if name.startswith(f"{DATA}/")]
    for name in set(data) - {"LICENSES.md"}:
        assert name in licences, name


def test_the_archives_are_small():
    assert built(".whl").stat().st_size < 8e6
    assert built(".tar.gz").stat().st_size < 12e6


def test_the_source_archive_has_what_builds_and_tests_it():
    with tarfile.open(built(".tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "tests/conftest.py", "Makefile"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", "docs/_build", "dist"))]


def test_the_surface_of_what_is_installed(installed, tmp_path):
    copy = shutil.copy(ROOT / "tests" / "test_surface.py", tmp_path)
    where = installed("python", "-c", "import gradsmith; print(gradsmith.__file__)")
    assert "site-packages" in where.stdout, where.stderr
    # Plain, because pytest rewrites the modules of a plugin, which leaves names in them.
    ended = installed("python", "-m", "pytest", "-q", "--assert=plain", str(copy))
    assert ended.returncode == 0, ended.stdout


def test_the_command_that_is_installed(installed):
    version = built(".whl").name.split("-")[1]
    assert installed("gradsmith", "--version").stdout == f"gradsmith {version}\n"
    assert "muon" in installed("gradsmith", "list").stdout
    checked = installed("gradsmith", "check", "optax.sgd", "--only", "abstract")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 failed" in checked.stdout


def test_without_the_extra_a_race_says_what_to_install(installed):
    ended = installed("gradsmith", "race", "optax.sgd", "--task", "tabular")
    assert ended.returncode == 2
    assert "gradsmith[race]" in ended.stderr
    assert "Traceback" not in ended.stderr
