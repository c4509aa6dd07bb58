"""The data that the package brings along, compressed."""

import lzma
from importlib import resources


def unpacked(name: str) -> bytes:
    """What a file of the folder `data` holds; `name` is without the ending `.xz`."""
    file = resources.files("gradsmith.race").joinpath("data", f"{name}.xz")
    return lzma.decompress(file.read_bytes())
