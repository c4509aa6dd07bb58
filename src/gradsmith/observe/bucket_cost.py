"""What one update costs each device, by the buckets that it is computed in."""

import dataclasses

from ..xla.program.collectives import Collective
from ..xla.program.counts import Counts


@dataclasses.dataclass(frozen=True)
class BucketCost:
    """What one update costs each device for one bucket.

    Attributes:
        name: `12x768x3072`, as its key in the state begins; several with `+` between them where
            they go through a rule together; '' for what belongs to none.
        flops: Of matrix products.
        received: The bytes received in collectives.
        collectives: How many of each kind. One that XLA has made of several is told of one bucket.
    """

    name: str
    flops: float
    received: float
    collectives: tuple[Collective, ...]


def received(counts: Counts) -> float:
    """Return the bytes received in all collectives."""
    return sum((one.received for one in counts.collectives.values()), 0.0)


def by_bucket(counts: Counts) -> tuple[BucketCost, ...]:
    """Return what belongs to each bucket, and last what belongs to none."""
    ordered = sorted(counts.buckets.items(), key=lambda item: item[0] == "")
    return tuple(
        BucketCost(name, own.flops, received(own), tuple(own.collectives.values()))
        for name, own in ordered
    )
