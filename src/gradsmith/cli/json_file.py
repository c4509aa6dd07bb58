"""The file that `--json` names."""

from pathlib import Path

from .loading import UsageError


def write_json(path: Path | None, text: str) -> None:
    """Write a report where `--json` says; nothing where it says nothing.

    Raises:
        UsageError: The file cannot be written.
    """
    if path is None:
        return
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path}: {error.strerror}") from None
