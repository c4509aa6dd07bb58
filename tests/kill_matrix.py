"""Print which checks fail on which mutant: `python tests/kill_matrix.py [mutant ...]`.

Exit code 1 when a mutant survives the check that must find it.
"""

import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
from mutants import MUTANTS, Mutant

from gradsmith.checks import Advice, check_optimizer


def killers(mutant: Mutant, only: tuple[str, ...] = ()) -> dict[str, str]:
    """The checks that fail on a mutant, and what each has seen."""
    return {check: advice.seen for check, advice in killing_advice(mutant, only).items()}


def killing_advice(mutant: Mutant, only: tuple[str, ...] = ()) -> dict[str, Advice]:
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


def main(names: list[str]) -> int:
    """Run and print; the number of survivors."""
    survivors = 0
    for mutant in MUTANTS:
        if names and mutant.subject.name not in names and mutant.check not in names:
            continue
        killed_by = killers(mutant)
        others = ", ".join(name for name in killed_by if name != mutant.check)
        found = mutant.check in killed_by
        survivors += not found
        mark = "killed  " if found else "SURVIVES"
        print(f"{mark} {mutant.check:<24} {mutant.subject.name:<36} also: {others or '-'}")
        sys.stdout.flush()
    print(f"{len(MUTANTS)} mutants, {survivors} survive")
    return survivors


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
