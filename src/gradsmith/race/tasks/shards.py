"""Shards of tokens as modded-nanogpt and llm.c write them: `.bin` files of uint16.

A file begins with 256 integers of 32 bits, little-endian: 20240520, the version 1, the number of
tokens, and zeros. The tokens follow, 16 bits each.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

MAGIC, VERSION, HEADER = 20240520, 1, 256


def shards(folder: Path, split: str) -> list[Path]:
    """The shards `fineweb_SPLIT_*.bin` in a folder, in the order of their names.

    Raises:
        ValueError: There are none.
    """
    found = sorted(folder.glob(f"fineweb_{split}_*.bin"))
    if not found:
        raise ValueError(
            f"there are no FineWeb shards fineweb_{split}_*.bin in {folder.absolute()}: "
            "`python data/cached_fineweb10B.py 20` of github.com/KellerJordan/modded-nanogpt "
            "downloads two billion tokens; then give --task-arg data=FOLDER"
        )
    return found


def tokens(path: Path) -> UInt16[np.ndarray, " n"]:
    """The tokens of a shard, read from the disk where they are looked at.

    Raises:
        ValueError: The file is no such shard, or is not whole.
    """
    header = np.fromfile(path, "<i4", HEADER)
    if len(header) < HEADER or (header[0], header[1]) != (MAGIC, VERSION):
        raise ValueError(
            f"{path} is no shard of tokens: it should begin with {MAGIC} and version {VERSION}, "
            f"and begins with {header[:2].tolist()}"
        )
    count, size = int(header[2]), path.stat().st_size
    if size != 4 * HEADER + 2 * count:
        raise ValueError(
            f"{path} should hold {count:,} tokens and has {size:,} bytes, not "
            f"{4 * HEADER + 2 * count:,}: download it again"
        )
    return np.memmap(path, "<u2", mode="r", offset=4 * HEADER, shape=(count,))


def in_order(paths: Sequence[Path], length: int) -> Iterator[UInt16[np.ndarray, " n"]]:
    """Pieces of `length + 1` tokens, one after the other, each beginning with the last's end.

    The rest of a shard that is too short for a piece is passed over, as in the benchmark.
    """
    for path in paths:
        whole = tokens(path)
        for first in _places(whole, length):
            yield np.asarray(whole[first : first + length + 1])


def count(paths: Sequence[Path], length: int) -> int:
    """How many such pieces there are."""
    return sum(len(_places(tokens(path), length)) for path in paths)


def _places(whole: UInt16[np.ndarray, " n"], length: int) -> range:
    return range(0, len(whole) - length - 1, length)
