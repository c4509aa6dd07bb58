"""What the names in a model say of its leaves: two ordered lists, of roles and of layouts.

In each the first line that fits decides. The lists hold habits of naming that several frameworks
share, not models; whoever names otherwise says so with `roles={pattern: role or axes}`.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from .axes import MatrixAxes

RoleName = Literal["matrix", "vector", "embedding", "head", "frozen"]
Shapes = Mapping[str, tuple[int, ...]]
Fits = Callable[[str, Shapes], bool]


class Naming(NamedTuple):
    """Names that tell the role of a leaf.

    Attributes:
        names: A pattern for the whole name of the leaf, of the module that holds it, or of both
            with a slash between; numbers are no modules.
        role: What such a leaf is.
        fits: Whether this is so for the leaf at a path in a tree of these shapes.
    """

    names: str
    role: RoleName
    fits: Fits = lambda path, shapes: True


class Layout(NamedTuple):
    """Names that tell the axes of a matrix.

    Attributes:
        names: As in `Naming`.
        axes: The axes of such a leaf; None where it fuses matrices whose widths no name tells.
        says: What it is, in a few words.
        fits: As in `Naming`.
        parts: How many matrices such a leaf fuses, as a rule.
    """

    names: str
    axes: MatrixAxes | None
    says: str
    fits: Fits = lambda path, shapes: True
    parts: int = 1


def _rank(rank: int) -> Fits:
    return lambda path, shapes: len(shapes[path]) == rank


def _sibling(path: str, *names: str) -> str:
    """Return the path of which the last parts are `names`, and the others those of `path`."""
    return "/".join([*path.split("/")[: -len(names)], *names])


def _beside_w(path: str, shapes: Shapes) -> bool:
    """Whether `(..., n)` stands beside a `w` of shape `(..., m, n)`: a Haiku bias."""
    w = shapes.get(_sibling(path, "w"), ())
    return len(w) >= 2 and shapes[path] == w[:-2] + w[-1:]


def _attention_input(path: str, shapes: Shapes) -> bool:
    """Whether `(d, heads, k)` has an output projection `(heads, k, d)` beside it.

    A dense layer of that name, scanned to `(layers, d, n)`, has no such neighbour.
    """
    shape, out = shapes[path], shapes.get(_sibling(path, "out", "kernel"), ())
    return len(shape) == len(out) == 3 and out[1:] == (shape[2], shape[0])


def _attention_output(path: str, shapes: Shapes) -> bool:
    query = _sibling(path, "query", "kernel")
    return query in shapes and _attention_input(query, shapes)


_CONV = r"(?!.*transpose).*conv.*/"  # of a transposed one nobody knows which axis is which

ROLES = (
    Naming(r"(.*_)?bias(_.*)?|scale|gain|gamma|beta|offset", "vector"),
    Naming(r".*norm.*|ln(_?(\d+|f))?", "vector"),
    Naming("b", "vector", _beside_w),
    Naming(r"(lm_|output_)?head|unembed.*|logits.*|classifier|router", "head"),
    Naming(r".*embed.*|wte|wpe|(tok_|pos_)?emb|(cls|mask)_token|shared/weight", "embedding"),
)

LAYOUTS = (
    Layout(r"c_attn|(.*_)?w?qkv(_.*)?|query_key_value|in_proj_weight", None, "fused", parts=3),
    Layout(r"(.*_)?(gate_up|up_gate)(_.*)?|w13|kv_proj", None, "fused", parts=2),
    Layout(r"weight_(ih|hh)(_l\d+)?", None, "fused gates", parts=4),
    Layout(
        r"(query|key|value)/kernel",
        MatrixAxes(0, (1, 2)),
        "attention (d, heads, k)",
        _attention_input,
    ),
    Layout("out/kernel", MatrixAxes((0, 1), 2), "attention (heads, k, d)", _attention_output),
    Layout(
        _CONV + "(kernel|w)", MatrixAxes((0, 1, 2), 3), "convolution (kx, ky, in, out)", _rank(4)
    ),
    Layout(_CONV + "weight", MatrixAxes((1, 2, 3), 0), "convolution (out, in, kx, ky)", _rank(4)),
    Layout("weight", MatrixAxes(1, 0), "a 'weight' is (out, in)", _rank(2)),
    Layout(".*", MatrixAxes(0, 1), "(in, out)", _rank(2)),
)


def role_by_name(
    path: str, shapes: Shapes, aliases: tuple[str, ...] = ()
) -> tuple[RoleName, str] | None:
    """Return the role that names tell, and the name that told it; None if none does.

    Args:
        path: Where the leaf is.
        shapes: The shapes of all leaves by path.
        aliases: Other paths that the leaf goes by, such as the class of its module.
    """
    for index, name in _fitting(ROLES, path, aliases):
        if ROLES[index].fits(path, shapes):
            return ROLES[index].role, name
    return None


def layout_by_name(path: str, shapes: Shapes, aliases: tuple[str, ...] = ()) -> Layout | None:
    """Return the layout that names and rank tell; arguments as for `role_by_name`."""
    for index, _ in _fitting(LAYOUTS, path, aliases):
        if LAYOUTS[index].fits(path, shapes):
            return LAYOUTS[index]
    return None


def _fitting(
    lines: tuple[Naming, ...] | tuple[Layout, ...], path: str, aliases: tuple[str, ...]
) -> list[tuple[int, str]]:
    """Return which lines have names that fit, each with the name that did."""
    patterns = tuple(line.names for line in lines)
    return _matches(patterns, tuple(_names(alias) for alias in (path, *aliases)))


def _names(path: str) -> tuple[str, str]:
    """Return the name of the module that holds a leaf, and the leaf's own."""
    *modules, leaf = path.lower().split("/")
    return next((name for name in reversed(modules) if not name.isdigit()), ""), leaf


@functools.lru_cache(maxsize=4096)  # a model has many leaves and few names
def _matches(
    patterns: tuple[str, ...], names: tuple[tuple[str, str], ...]
) -> list[tuple[int, str]]:
    texts = [text for owner, leaf in names for text in (leaf, owner, f"{owner}/{leaf}")]
    first = lambda pattern: next((text for text in texts if re.fullmatch(pattern, text)), None)
    found = ((index, first(pattern)) for index, pattern in enumerate(patterns))
    return [(index, text) for index, text in found if text is not None]
