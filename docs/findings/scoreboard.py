"""Run the check kit over Optax and write `scoreboard.md`: `python docs/findings/scoreboard.py`.

With names, only those are run anew; what a run found is kept in `scoreboard.json`.
"""

import functools
import json
import os
import sys
from pathlib import Path

import jax
import optax
from optax_subjects import names, subject_of

from gradsmith.checks.registry import all_checks
from gradsmith.checks.supervisor import supervise

HERE = Path(__file__).parent
RECORD = HERE / "scoreboard.json"


def main(wanted: list[str]) -> None:
    """Check what is wanted, keep the results, write the page."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # for the workers, which inherit it
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in wanted or names():
        report = supervise(functools.partial(subject_of, name), all_checks())
        print(report.headline, flush=True)
        record[name] = {
            "counts": report.counts,
            "metrics": {key: round(value, 3) for key, value in report.metrics.items()},
            "seconds": round(report.seconds, 1),
            "failed": {r.check: r.advice.seen for r in report.failures if r.advice},
            "remarks": {r.check: r.advice.seen for r in report.remarks if r.advice},
            "inconclusive": [r.check for r in report.results if r.outcome == "inconclusive"],
        }
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (HERE / "scoreboard.md").write_text(page(record))


def page(record: dict) -> str:
    """The scoreboard as Markdown."""
    lines = [
        "# Scoreboard: the check kit on Optax",
        "",
        f"Written by `python docs/findings/scoreboard.py` with optax {optax.__version__} and jax "
        f"{jax.__version__} on eight CPU devices.",
        "*Failed* names must checks, *remarks* advisory ones ([what they say](../checks.md)).",
        "State: bytes of state per byte of parameters. Eqns: equations of `update` per leaf.",
        "",
        "| optimizer | ran | passed | blocked | state | eqns | failed | remarks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in sorted(record.items()):
        counts, metrics = entry["counts"], entry["metrics"]
        lines.append(
            f"| {name} | {counts['ran']} | {counts['passed']} | {counts['blocked']} "
            f"| {metrics.get('state_bytes_per_parameter_byte', '')} "
            f"| {metrics.get('equations_per_leaf', '')} "
            f"| {', '.join(entry['failed']) or '-'} | {', '.join(entry['remarks']) or '-'} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(sys.argv[1:])
