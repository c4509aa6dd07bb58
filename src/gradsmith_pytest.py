"""The pytest plugin: `pytest --gradsmith mine.py:optimizer` makes every check of it a test.

It stands beside the package, because importing that imports JAX, and pytest loads its plugins in
every session.
"""

from collections.abc import Iterator
from typing import Any

import pytest

OPTION = "--gradsmith"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        OPTION,
        action="append",
        default=[],
        metavar="OPTIMIZER",
        help="check an optimizer, file.py:factory or optax.adam, one test a check; may be repeated",
    )


@pytest.hookimpl(tryfirst=True)  # so that -k and -m choose among them
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Put the checks of the optimizers behind the tests that were found."""
    for spec in session.config.option.gradsmith:
        items.extend(Optimizer.from_parent(session, name=spec, nodeid=spec).collect())


class Optimizer(pytest.Collector):
    """An optimizer that was named; what pyproject.toml says of it counts."""

    def collect(self) -> Iterator["CheckItem"]:
        """Yield its checks that must pass, and those that it claims.

        Raises:
            pytest.UsageError: It cannot be loaded.
        """
        from gradsmith.checks.pytest_plugin import expectations
        from gradsmith.checks.registry import all_checks
        from gradsmith.cli.check import subject_from
        from gradsmith.cli.loading import UsageError

        try:
            subject = subject_from(self.name, {})
        except UsageError as error:
            raise pytest.UsageError(f"{OPTION} {self.name}: {error}") from None
        for check in all_checks():
            if check.tier != "must" and check.name not in subject.claims:
                continue
            item = CheckItem.from_parent(self, name=check.name, check=check, subject=subject)
            for mark in expectations(subject, check):
                item.add_marker(mark)
            yield item


class CheckItem(pytest.Item):
    """One check of one optimizer."""

    def __init__(self, *, check: Any, subject: Any, **node: Any):
        super().__init__(**node)
        self._check, self._subject = check, subject

    def runtest(self) -> None:
        """Run the check, and what it needs."""
        from gradsmith.checks.pytest_plugin import assert_passes

        assert_passes(self._check, self._subject)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The advice alone: no line of the kit is at fault."""
        from gradsmith.checks import CheckFailure

        if isinstance(excinfo.value, CheckFailure):
            return str(excinfo.value).strip()
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """How the report calls it."""
        return self.path, None, self.nodeid
