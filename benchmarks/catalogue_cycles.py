"""What each optimizer of the catalogue costs on a TPU v5e that need not be there.

python benchmarks/catalogue_cycles.py [--refreshes] [name ...]      (needs libtpu)

One update of one matrix of 768 x 3072, as a table in Markdown. Cycles are estimated by the TPU
compiler, not timed. Of optimizers that refresh something now and then, it is a step between. With
`--refreshes` it is that step, too; the compiler takes tens of minutes for a factorization.
"""

import argparse

import jax
import jax.numpy as jnp
from tpu import ON, at_step

import gradsmith as gs
from gradsmith.catalogue import SHAPE, TECHNIQUES

PARAMS = {"kernel": jax.ShapeDtypeStruct(SHAPE, jnp.float32)}


def million_cycles(tx) -> str:
    cycles = gs.update_cost(tx, PARAMS, on=ON).cycles
    assert cycles is not None
    return f"{'' if cycles.exact else '>= '}{cycles.all / 1e6:.3g}"


def main(names: list[str], refreshes: bool) -> None:
    print(f"| optimizer | a step |{' a refresh |' * refreshes}\n|---|---|{'---|' * refreshes}")
    for one in TECHNIQUES:
        if one.kind != "optimizer" or (names and one.name not in names):
            continue
        row = f"| `{one.name}` | {million_cycles(at_step(one.make(), 5))} |"
        plain, refresh = one.flops(*SHAPE)
        if refreshes and refresh > plain:
            row += f" {million_cycles(one.make())} |"
        print(row, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="by default all")
    parser.add_argument("--refreshes", action="store_true")
    given = parser.parse_args()
    main(given.names, given.refreshes)
