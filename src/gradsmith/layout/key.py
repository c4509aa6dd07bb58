"""The name of a bucket in a state: `'12x768x3072 float32'`."""

import re
from typing import Any, NamedTuple

import jax.numpy as jnp


class BucketKey(NamedTuple):
    """What a bucket is called in a state: how many matrices, their shape, and the dtype.

    A state has strings for keys, as checkpoints do; `str(key)` and `BucketKey.parse` are inverses.

    Examples:
        >>> from gradsmith.layout.key import BucketKey
        >>> key = BucketKey.parse("12x768x3072 float32")
        >>> print(key.matrices, key.matrix_shape, key.dtype, "->", key)
        12 (768, 3072) float32 -> 12x768x3072 float32
    """

    matrices: int
    matrix_shape: tuple[int, int]
    dtype: Any

    def __str__(self) -> str:
        return f"{self.shape_name} {self.dtype}"

    @property
    def shape_name(self) -> str:
        """The key without the dtype."""
        return "x".join(map(str, (self.matrices, *self.matrix_shape)))

    @staticmethod
    def parse(text: str) -> "BucketKey | None":
        """Return the key that is written so; None where the text is no key."""
        found = re.fullmatch(r"(\d+)x(\d+)x(\d+) (\w+)", text)
        if found is None:
            return None
        matrices, m, n = map(int, found.groups()[:3])
        return BucketKey(matrices, (m, n), jnp.dtype(found[4]))
