"""What each optimizer of the catalogue costs on a TPU v5e that need not be there.

python benchmarks/catalogue_cycles.py [name ...]      (needs libtpu: pip install 'gradsmith[tpu]')

One update of one matrix of 768 x 3072, as a table in Markdown. Cycles are estimated by the TPU
compiler, not timed. "A step" is one between refreshes; "a refresh" is there for those that have
some.
"""

import sys

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


def main(names: list[str]) -> None:
    print("| optimizer | a step | a refresh |\n|---|---|---|", flush=True)
    for one in TECHNIQUES:
        if one.kind != "optimizer" or (names and one.name not in names):
            continue
        plain, refresh = one.flops(*SHAPE)
        step = million_cycles(at_step(one.make(), 5))
        longest = million_cycles(one.make()) if refresh > plain else ""
        print(f"| `{one.name}` | {step} | {longest} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
