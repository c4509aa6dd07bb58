"""The site has a folder for main and for each release, and leads to the newest of these."""

import importlib.util
import json
import subprocess

import pytest
from test_docs import ROOT

MAKEFILE = """
docs:
	@mkdir -p docs/_build
	@echo $$DOCS_VERSION of `cat what` > docs/_build/index.html
"""


@pytest.fixture
def versions():
    spec = importlib.util.spec_from_file_location("versions", ROOT / "docs" / "versions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Commit something in a repository of its own, and tag it."""
    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)

    def git(*words):
        name = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
        subprocess.run(["git", *name, *words], check=True, capture_output=True)

    def commit(what, *tags):
        (repository / "what").write_text(what)
        git("add", ".")
        git("commit", "--message", what)
        for tag in tags:
            git("tag", tag)

    git("init")
    (repository / "Makefile").write_text(MAKEFILE)
    return commit


def test_each_release_is_built_from_its_own_checkout(versions, release, tmp_path):
    release("first", "v0.9.0")
    release("second", "v0.10.0", "v0.10.0-rc1", "nightly")
    release("third")
    site = tmp_path / "site"
    versions.main(site)
    pages = {path.parent.name: path.read_text().strip() for path in site.glob("*/index.html")}
    assert pages == {
        "main": "main of third",
        "v0.10.0": "v0.10.0 of second",
        "v0.9.0": "v0.9.0 of first",
    }
    listed = json.loads((site / "versions.json").read_text())
    assert [one["name"] for one in listed] == ["main", "v0.10.0", "v0.9.0"]
    assert [one["preferred"] for one in listed] == [False, True, False]
    assert all(one["url"].endswith(f"/{one['version']}/") for one in listed)
    assert 'url=v0.10.0/"' in (site / "index.html").read_text()
    left = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(left.stdout.splitlines()) == 1


def test_before_a_release_the_site_is_that_of_main(versions, release, tmp_path):
    release("first")
    versions.main(tmp_path / "site")
    assert 'url=main/"' in (tmp_path / "site" / "index.html").read_text()
    [one] = json.loads((tmp_path / "site" / "versions.json").read_text())
    assert (one["name"], one["preferred"]) == ("main", True)


def test_the_pages_ask_where_the_list_is_published(versions):
    assert f'"{versions.SITE}/versions.json"' in (ROOT / "docs" / "conf.py").read_text()
