"""Run the check kit over optimizers: `python docs/findings/scoreboard.py` writes `scoreboard.md`.

Over all of Optax, and over those packages of others that are installed. With names, only those are
run anew; what a run found is kept in `scoreboard.json`.
"""

import functools
import json
import os
import re
import sys
from pathlib import Path

import jax
import optax_subjects
import third_party_subjects

from gradsmith.checks.registry import all_checks
from gradsmith.checks.supervisor import SubjectUnusable, supervise

HERE = Path(__file__).parent
RECORD = HERE / "scoreboard.json"


def main(wanted: list[str]) -> None:
    """Check what is wanted, keep the results, write the page."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # for the workers, which inherit it
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in wanted or [*third_party_subjects.names(), *optax_subjects.names()]:
        record[name] = examine(name)
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (HERE / "scoreboard.md").write_text(page(record))


def examine(name: str) -> dict:
    """What the kit says of one optimizer."""
    subjects = third_party_subjects if name in third_party_subjects.DECLARED else optax_subjects
    found = {"versions": f"{len(all_checks())} checks, {subjects.version(name)}"}
    try:
        report = supervise(functools.partial(subjects.subject_of, name), all_checks())
    except SubjectUnusable as error:
        print(f"{name}: {error}", flush=True)
        return found | {"unusable": _without_folders(str(error))}
    print(report.headline, flush=True)
    return found | {
        "counts": report.counts,
        "metrics": {key: round(value, 3) for key, value in report.metrics.items()},
        "seconds": round(report.seconds, 1),
        "failed": _seen(report.failures),
        "remarks": _seen(report.remarks),
        "inconclusive": [r.check for r in report.results if r.outcome == "inconclusive"],
    }


def _seen(results: tuple) -> dict:
    """What each check saw."""
    return {r.check: _without_folders(r.advice.seen) for r in results if r.advice}


def _without_folders(text: str) -> str:
    """Files by where they stand in their packages."""
    return re.sub(r"[^\s(]*/(?:site-packages|docs/findings|src)/", "", text)


def page(record: dict) -> str:
    """The scoreboard as Markdown."""
    others = {name: record[name] for name in record if name in third_party_subjects.DECLARED}
    ours = {name: record[name] for name in record if name not in others}
    lines = [
        "# Scoreboard: the check kit on other people's optimizers",
        "",
        f"Written by `python docs/findings/scoreboard.py` with jax {jax.__version__} on eight CPU "
        "devices.",
        "*Failed* names must checks, *remarks* advisory ones ([what they say](../checks.md)).",
        "State: bytes of state per byte of parameters. Eqns: equations of `update` per leaf.",
        "",
        "## Optax",
        "",
        "What the failures are, with reproducers: [findings in Optax](optax.md).",
        "",
        *_table(ours),
        "",
        "## Other packages",
        "",
        "What the failures are, with reproducers: [findings elsewhere](third_party.md).",
        "",
        *_table(others),
    ]
    return "\n".join([*lines, ""])


def _table(entries: dict) -> list[str]:
    lines = [
        f"{'; '.join(sorted({entry['versions'] for entry in entries.values()}))}.",
        "",
        "| optimizer | ran | passed | blocked | state | eqns | failed | remarks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in sorted(entries.items()):
        if "unusable" in entry:
            lines.append(f"| {name} | - | - | - | - | - | does not import | - |")
            continue
        counts, metrics = entry["counts"], entry["metrics"]
        lines.append(
            f"| {name} | {counts['ran']} | {counts['passed']} | {counts['blocked']} "
            f"| {metrics.get('state_bytes_per_parameter_byte', '')} "
            f"| {metrics.get('equations_per_leaf', '')} "
            f"| {_names(entry['failed'])} | {_names(entry['remarks'])} |"
        )
    return lines


def _names(failed: dict) -> str:
    """The checks that failed and are still on the list."""
    known = {check.name for check in all_checks()}
    return ", ".join(name for name in sorted(failed) if name in known) or "-"


if __name__ == "__main__":
    main(sys.argv[1:])
