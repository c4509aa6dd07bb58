"""The documentation of the checks is what their docstrings say."""

import re
from pathlib import Path

from gradsmith.checks import all_checks
from gradsmith.checks.page import checks_as_markdown, rewrite

PAGE = Path(__file__).parent.parent / "docs" / "checks.md"


def test_the_page_is_up_to_date():
    text = PAGE.read_text()
    assert rewrite(text) == text, "run python -m gradsmith.checks.page docs/checks.md"


def test_the_page_defines_every_check():
    headings = re.findall(r"^#### (\w+)$", checks_as_markdown(), re.MULTILINE)
    assert sorted(headings) == sorted(check.name for check in all_checks())


def test_the_table_of_mistakes_names_checks_that_exist():
    rows = re.findall(r"^\| \d+ \|[^|]*\| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 31
    named = {word for row in rows for word in re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b", row)}
    assert named - {"equations_per_leaf"} <= {check.name for check in all_checks()}
