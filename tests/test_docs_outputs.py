"""What a page quotes is printed anew and compared.

A comment, which no reader of the page sees, stands before each quoted block:

    <!-- output of: gradsmith check mine.py:my_optimizer -->

The command runs in a folder that holds the files of the pages. The lines of the block must stand
in what it prints. `...` stands for any lines, and numbers of seconds do not count. Where the
numbers are those of one machine, the mark says `output, without figures, of`, and only words are
compared. `output of the block above` is what a block of Python has printed.
"""

import contextlib
import functools
import importlib.util
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from test_docs import PAGES, ROOT

MARK = re.compile(
    r"^<!-- output(?P<words>, without figures,)? of(?:: (?P<command>.*)| the block above) -->$"
)
SECONDS = re.compile(r"\b[\d.]+ s\b|(?<=seconds )[\d.]+")
NUMBER = re.compile(r"[-+]?\.?\d[\d.,e+-]*")
UNIT = re.compile(r"# ([mµn]?s|[MG]?B)\b")
EXAMPLE = (ROOT / "examples" / "my_optimizer.py").read_text()
FAULTY = EXAMPLE.replace("jnp.where(norms > 0, norms, 1)", "norms")
FILES = {"examples/my_optimizer.py": FAULTY, "mine.py": FAULTY}
"""The optimizer of the pages, without the guard whose absence they show."""


class Quoted(NamedTuple):
    """A block of a page, and what printed it.

    Args:
        page: Where it stands.
        line: The line of its mark.
        command: What was typed; None if a block of Python printed it.
        exact: Whether its numbers count.
        text: The block.
    """

    page: Path
    line: int
    command: str | None
    exact: bool
    text: str


def quoted(page):
    """The marked blocks of a page."""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if not (mark := MARK.match(line)):
            continue
        rest = lines[number + 1 :]
        if rest[0].startswith("```"):
            block = rest[1 : rest.index("```", 1)]
        else:
            length = next(i for i, one in enumerate(rest) if one and not one.startswith("    "))
            block = [one[4:] for one in rest[:length]]
        yield Quoted(
            page, number + 1, mark["command"], not mark["words"], "\n".join(block).strip("\n")
        )


BLOCKS = [block for page in PAGES for block in quoted(page)]


def marked(block):
    name = f"{block.page.relative_to(ROOT)}:{block.line}"
    command = block.command or ""
    marks = [pytest.mark.slow] if re.search(r"gradsmith (diff|race|cost)", command) else []
    if "--on" in command and importlib.util.find_spec("libtpu") is None:
        marks.append(pytest.mark.skip(reason="the compiler for TPUs is not installed"))
    return pytest.param(block, id=name, marks=marks)


@functools.cache
def printed(command, folder):
    """What a person sees who types this into a terminal of 102 columns, without colours."""
    one_device = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    env = os.environ | {"TERM": "xterm", "COLUMNS": "102", "NO_COLOR": "1", "XLA_FLAGS": one_device}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    ours, theirs = pty.openpty()  # a table is as wide as its terminal
    with tempfile.TemporaryFile() as remarks:
        process = subprocess.Popen(
            command, shell=True, cwd=folder, env=env, stdout=theirs, stderr=remarks
        )
        os.close(theirs)
        results = b""
        with contextlib.suppress(OSError):  # so Linux says that the other end is closed
            while chunk := os.read(ours, 65536):
                results += chunk
        os.close(ours)
        process.wait()
        remarks.seek(0)
        everything = (remarks.read() + results).decode().replace("\r", "")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", everything)


def printed_by_python(page, line):
    """What the last block of Python above that line prints, after those before it."""
    above = "\n".join(page.read_text().splitlines()[:line])
    *before, last = re.findall(r"^```python\n(.*?)^```", above, re.MULTILINE | re.DOTALL)
    namespace = {"__name__": "__main__"}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec("".join(before), namespace)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(last, namespace)
    return output.getvalue()


def comparable(text, exact):
    """Without what differs from run to run."""
    text = SECONDS.sub("#", "\n".join(line.rstrip() for line in text.splitlines()))
    if exact:
        return text
    text = UNIT.sub("#", NUMBER.sub("#", text))
    return re.sub(r"[ ─]+", " ", text)  # columns are as wide as their figures


def shows(output, block):
    """Whether these lines stand in the output together, `...` for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in block.splitlines()
    )
    return re.search("^" + pattern, output + "\n", re.MULTILINE) is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("block", [marked(block) for block in BLOCKS])
def test_a_page_shows_what_is_printed(block, folder):
    text = block.text
    if text.startswith("$ "):
        typed, _, text = text.partition("\n")
        assert typed == f"$ {block.command}"
        text = text.strip("\n")
    output = (
        printed(block.command, folder)
        if block.command
        else printed_by_python(block.page, block.line)
    )
    assert shows(comparable(output, block.exact), comparable(text, block.exact)), output


def test_every_page_that_quotes_is_compared():
    compared = {str(block.page.relative_to(ROOT)) for block in BLOCKS}
    assert compared >= {
        "README.md",
        "docs/diff.md",
        "docs/tutorials/check_report.md",
        "docs/tutorials/cite.md",
        "docs/tutorials/tpu_price.md",
    }


def test_every_command_that_stands_with_its_output_is_compared():
    for page in PAGES:
        lines = page.read_text().splitlines()
        for mark, line in zip(["", *lines], lines, strict=False):
            if re.match(r" *\$ gradsmith", line):
                assert MARK.match(mark) or mark.startswith("<!-- tests/test_docs_race.py"), line


def test_the_fault_is_the_one_that_the_tutorial_shows():
    shown = re.search(
        r"```text\n(.*?)```", (ROOT / "docs/tutorials/check_report.md").read_text(), re.S
    )
    body = lambda text: [line for line in text.splitlines() if "norms" in line]
    assert shown
    assert body(shown[1]) == body(FAULTY)


def test_another_line_is_seen():
    output = "first\nsecond 1.5 s\nthird 3\n"
    assert shows(output, "first\n...\nthird 3")
    assert shows(comparable(output, True), comparable("second 2 s", True))
    assert shows(comparable(output, False), comparable("third  44", False))
    for wrong in ("first\nthird 3", "third 4", "third", "econd 1.5 s", "third 3\n...\nfirst"):
        assert not shows(output, wrong), wrong
