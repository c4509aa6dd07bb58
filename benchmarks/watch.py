"""What `gradsmith.watch` adds to the time of an update of Muon: GPT-2 small, on this machine.

python benchmarks/watch.py [--layers 12]

An update alone, one that is watched and not read, and one that is read, in turn; the medians of
some rounds. The mean over 50 steps has one that is read. The bar is 2 %.
"""

import argparse

from tpu import layers

import gradsmith as gs
from gradsmith.observe.update_seconds import update_seconds

EVERY, NEVER = 50, 10**9


def main(count: int) -> None:
    muon, params = gs.muon(0.02), layers(count)
    unread, read = (gs.watch(muon, every=every) for every in (NEVER, 1))
    optimizers = {"alone": muon, "unread": unread, "read": read}
    one, quick, slow = update_seconds({n: (tx, params) for n, tx in optimizers.items()}).values()
    mean = ((EVERY - 1) * quick + slow) / EVERY
    print(
        f"an update {one:.3f} s; watched {quick / one:.3f} of it, and {slow / one:.2f} where it is "
        f"read; the mean over {EVERY} steps {100 * (mean / one - 1):+.1f} %"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    main(parser.parse_args().layers)
