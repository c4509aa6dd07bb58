"""The kit at the optimization level of XLA that users have; the other tests compile at level 0.

Run alone, `python tests/test_checks_optimized.py`: the level is a flag of the process. Bit for bit
claims and tolerances are the compiler's business, so everything that compares two programs is asked
of optimizers with every kind of arithmetic, and of mutants whose fault is as small as it gets.
"""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_kit_is_right_about_these_as_users_compile_them():
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run([sys.executable, __file__], env=kept, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def main() -> int:
    """Check them and print what is wrong; how many checks said so."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    import jax
    import optax
    import optax.contrib
    from kill_matrix import killers, tells
    from mutants import MUTANTS

    import gradsmith as gs
    from gradsmith.checks import check_optimizer

    compared = (
        *("jit_equals_eager", "scan_equals_loop", "vmap", "donate", "numpy_inputs", "chain"),
        *("inject_learning_rate", "multisteps", "apply_if_finite", "sharded_step", "shard_map"),
        *("flax_msgpack", "init_jit_equals_eager", "leaves_descend"),
    )
    wrong = 0
    right = (optax.adam, optax.contrib.schedule_free_sgd, gs.muon, gs.normuon, gs.mars_adamw)
    with jax.numpy_dtype_promotion("standard"):
        for factory in right:
            report = check_optimizer(factory, only=compared, on_failure="return", limit=600.0)
            print(report.headline, flush=True)
            wrong += not report.ok
            if not report.ok:
                print(report)
    for mutant in MUTANTS:
        if "tiny_rate" in mutant.subject.factory.__name__:
            told = killers(mutant, only=(mutant.check,))
            found = mutant.check in told and tells(mutant, told[mutant.check])
            print("killed  " if found else "SURVIVES", mutant.subject.name, flush=True)
            wrong += not found
    return wrong


if __name__ == "__main__":
    sys.exit(main())
