"""What the readings of `gradsmith.watch` mean, in a line each; docs/watch.md has more."""

MEANINGS = {
    "norm": "the root of the sum of squares",
    "rms": "the root of the mean of squares",
    "update_ratio": "log10 of the norm of the update over that of the parameter; -3 is usual",
    "effective_rate": "the rate at which gradient descent would go as far along the gradient",
    "cosine_gradient": "of the update and minus the gradient; 1 goes straight down",
    "cosine_param": "of the update and the parameter; below 0, weights shrink",
    "cosine_before": "of the update and the one before; below 0, they undo each other",
    "spectrum": "the largest singular values, at the last reading",
    "spectral_norm": "the largest singular value",
    "stable_rank": "about in how many directions it goes",
    "orthogonality": "how far it is from equal singular values; 0 where they are equal",
    "zero": "the share of entries whose update is zero",
    "changed": "the share of entries whose update is not their gradient",
    "uphill": "the share of entries whose update has the sign of the gradient",
    "outward": "the share of entries that the update moves away from zero",
    "still": "the share of entries of {of} that a step did not change",
    "off_diagonal_in": "how stale the basis of the rows is; 0 where it is that of the factor",
    "off_diagonal_out": "how stale the basis of the columns is; 0 where it is that of the factor",
    "turned_in": "how far the basis of the rows has turned since the reading before",
    "turned_out": "how far the basis of the columns has turned since the reading before",
}


def meaning(reading: str) -> str:
    """What a reading means; nothing of one that a user has written.

    That of an array of the state says which array it is.

    Examples:
        >>> meaning("momentum_still"), meaning("dead_rows")
        ('the share of entries of momentum that a step did not change', '')
    """
    ends = [end for end in MEANINGS if reading == end or reading.endswith(f"_{end}")]
    if not ends:
        return ""
    end = max(ends, key=len)
    return MEANINGS[end].format(of=reading.removesuffix(end).strip("_"))
