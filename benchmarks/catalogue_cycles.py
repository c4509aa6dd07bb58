"""What each technique of the catalogue costs on a TPU v5e that need not be there.

python benchmarks/catalogue_cycles.py [--refreshes] [--write] [name ...]      (needs libtpu)

One update of one matrix of 768 x 3072, in million cycles. The TPU compiler estimates them; nothing
is timed. Of what refreshes something now and then, it is a step between two refreshes. With
`--refreshes` it is a step with one, too: the compiler takes minutes for it.
`--write` puts each figure into the catalogue. `qk_clip` is not here: it needs a model's logits.
"""

import argparse
import json

import jax
import jax.numpy as jnp
from tpu import ON, at_step, in_millions

import gradsmith as gs
from gradsmith.catalogue import CYCLES, SHAPE, TECHNIQUES, Technique, read_cycles
from gradsmith.xla.program.cycles import Cycles

SHORT = ".3g"
PARAMS = {"kernel": jax.ShapeDtypeStruct(SHAPE, jnp.float32)}


def cycles(technique: Technique, step: int) -> Cycles:
    found = gs.update_cost(at_step(technique.make(), step), PARAMS, on=ON).cycles
    assert found is not None
    return found


def measure(technique: Technique, refreshes: bool) -> str:
    between = cycles(technique, 5)
    plain, refresh = technique.flops(*SHAPE)
    if not refreshes or refresh == plain:
        return in_millions(between, SHORT)
    # Roots are taken in a step, bases after it: at the start of the next one.
    dearest = max((cycles(technique, step) for step in (10, 11)), key=lambda cycles: cycles.all)
    refreshing = f"refresh {in_millions(dearest, SHORT)}"
    return refreshing if dearest == between else f"{in_millions(between, SHORT)}, {refreshing}"


def main(names: list[str], refreshes: bool, write: bool) -> None:
    for technique in TECHNIQUES:
        if technique.name == "qk_clip" or (names and technique.name not in names):
            continue
        shown = measure(technique, refreshes)
        print(f"{technique.name:28}{shown}", flush=True)
        if write:
            CYCLES.write_text(json.dumps(read_cycles() | {technique.name: shown}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="by default all")
    parser.add_argument("--refreshes", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    main(given.names, given.refreshes, given.write)
