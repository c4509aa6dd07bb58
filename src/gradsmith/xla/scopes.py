"""Which bucket a part of a program belongs to: written when it is traced, read from its text."""

import contextlib
import re
from collections.abc import Iterable

import jax

_NAMED = re.compile(r'op_name="[^"]*\bbucket_([\dx+]+)')


def bucket_scope(names: Iterable[str]) -> contextlib.AbstractContextManager:
    """Write into what is traced inside that it belongs to these buckets, `"12x768x3072"`.

    The names stand in the metadata of each operation, which change no program.
    """
    return jax.named_scope("bucket_" + "+".join(names))


def buckets_of(metadata: str) -> str:
    """Return the buckets that an operation belongs to, with `+` between them; '' for none.

    Examples:
        >>> buckets_of('metadata={op_name="jit(step)/bucket_2x8x16+8x8x8/dot_general"}')
        '2x8x16+8x8x8'
    """
    found = _NAMED.search(metadata)
    return found[1] if found else ""
