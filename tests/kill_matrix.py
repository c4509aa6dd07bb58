"""Print which checks fail on which mutant: `python tests/kill_matrix.py [mutant ...]`.

`--share 2/5` takes the second of five parts. Exit code 1 when a mutant survives the check that must
find it, or that check tells another cause than the mutant's.
"""

import argparse
import os
import re
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
from mutants import MUTANTS, Mutant

from gradsmith.checks import Advice, all_checks, check_optimizer

TIER = {check.name: check.tier for check in all_checks()}


def killers(mutant: Mutant, only: tuple[str, ...] = ()) -> dict[str, Advice]:
    """The checks that fail on a mutant, and what each says."""
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            report = check_optimizer(
                mutant.subject,
                only=only,
                on_failure="return",
                limit=600.0,  # slow is not alive, however busy the machine
            )
    finally:
        jax.config.update("jax_default_matmul_precision", precision)  # one mutant changes it
    return {
        result.check: result.advice
        for result in (*report.failures, *report.remarks)
        if result.advice
    }


def tells(mutant: Mutant, advice: Advice) -> bool:
    """Whether an advice is about the fault of the mutant."""
    return bool(re.search(mutant.told, f"{advice.seen}\n{advice.cause}", re.DOTALL))


def main(names: list[str], share: tuple[int, int] = (1, 1)) -> int:
    """Run and print; the number of mutants that survive or are told another cause."""
    number, of = share
    chosen = [
        mutant
        for mutant in MUTANTS
        if not names or mutant.subject.name in names or mutant.check in names
    ][number - 1 :: of]
    faults = 0
    for mutant in chosen:
        killed_by = killers(mutant)
        others = ", ".join(name for name in killed_by if name != mutant.check)
        found = mutant.check in killed_by
        told = found and tells(mutant, killed_by[mutant.check])
        faults += not told
        mark = "killed" if told else "OTHER CAUSE" if found else "SURVIVES"
        tier = TIER[mutant.check]
        name = mutant.subject.name
        print(f"{mark:<11} {mutant.check:<24} {tier:<8} {name:<48} also: {others or '-'}")
        if found and not told:
            advice = killed_by[mutant.check]
            print(f"  seen: {advice.seen}\n  cause: {advice.cause}\n  not: {mutant.told}")
        sys.stdout.flush()
    checks = {mutant.check for mutant in chosen}
    print(
        f"{len(chosen)} mutants of {len(checks)} checks: {len(chosen) - faults} killed by the "
        f"check that must, with their cause, {faults} not"
    )
    return faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The checks that fail on each mutant.")
    parser.add_argument("names", nargs="*", help="of mutants or of their checks")
    parser.add_argument("--share", default="1/1")
    given = parser.parse_args()
    part, parts = map(int, given.share.split("/"))
    sys.exit(min(main(given.names, (part, parts)), 1))
