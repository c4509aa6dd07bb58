"""The site of main and of every release, side by side, as the workflow publishes them.

    python docs/versions.py FOLDER

Each is built from its own checkout by its own `make docs`, and stands in a folder of its name. A
page has a list of all of them. The front page leads to the newest release, or to main before there
is one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SITE = "https://gradsmith.github.io/gradsmith"
MAIN = "main"


def releases() -> list[str]:
    """Tags such as v0.1.0 of this repository, the newest first."""
    tags = subprocess.run(["git", "tag", "--list"], capture_output=True, text=True, check=True)
    named = [tag for tag in tags.stdout.split() if re.fullmatch(r"v\d+(\.\d+)*", tag)]
    return sorted(named, key=lambda tag: [int(n) for n in tag[1:].split(".")], reverse=True)


def listed(tags: list[str]) -> list[dict[str, Any]]:
    """The versions as the theme of the site reads them."""
    newest = (tags or [MAIN])[0]
    return [
        {"name": name, "version": name, "url": f"{SITE}/{name}/", "preferred": name == newest}
        for name in (MAIN, *tags)
    ]


def build(commit: str, name: str, folder: Path) -> None:
    """Build the site of a commit into a folder of that name."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Path(scratch, "checkout")
        subprocess.run(["git", "worktree", "add", "--detach", checkout, commit], check=True)
        try:
            environment = {**os.environ, "DOCS_VERSION": name}
            subprocess.run(["make", "docs"], cwd=checkout, env=environment, check=True)
            shutil.copytree(checkout / "docs" / "_build", folder / name)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", checkout], check=True)


def main(folder: Path) -> None:
    """Build all of it."""
    tags = releases()
    for commit, name in (("HEAD", MAIN), *((tag, tag) for tag in tags)):
        build(commit, name, folder)
    first = (tags or [MAIN])[0]
    (folder / "versions.json").write_text(json.dumps(listed(tags), indent=2))
    (folder / "index.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>gradsmith</title>'
        f'<meta http-equiv="refresh" content="0; url={first}/"><a href="{first}/">gradsmith</a>\n'
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
