"""What the names in a model say of its leaves: two ordered lists, of roles and of layouts.

In each list the first line that fits decides. The lists hold habits of naming that several
frameworks share, not models; whoever names otherwise says so with `roles={pattern: role or axes}`.
A new habit is one new line.

Names are compared by their words. `LayerNorm_0` is `layer_norm` and `mlp_head` is `mlp_head`: words
in lower case with underscores between them, and no numbers. A name as it is written, in lower case,
fits too: `w13`. Numbers, `layers` and `~` are not names, they only hold others.
"""

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from .axes import MatrixAxes

RoleName = Literal["matrix", "vector", "embedding", "head", "frozen"]
Shapes = Mapping[str, tuple[int, ...]]


class Naming(NamedTuple):
    """Names that tell the role of a leaf.

    Attributes:
        names: A regular expression for the whole of a name: `leaf` or `module` fits either,
            `/leaf` the leaf alone, `module/` the module that holds it, `module/leaf` both, and
            `above/module/leaf` also the module above. `.*` stays within one name.
        role: What such a leaf is.
        fits: Whether this is so for the leaf at a path in a tree of these shapes.
    """

    names: str
    role: RoleName
    fits: Callable[[str, Shapes], bool] = lambda path, shapes: True


class Layout(NamedTuple):
    """Names that tell the axes of a matrix.

    Attributes:
        names: As in `Naming`.
        axes: The axes of such a leaf, which fit a shape that has as many; or a function of path and
            shapes that returns them, and None where they do not fit. None alone: such a leaf fuses
            several matrices, and no name tells how wide each of them is.
        says: What it is, in a few words.
        parts: How many matrices such a leaf fuses; None where that differs.
    """

    names: str
    axes: MatrixAxes | Callable[[str, Shapes], MatrixAxes | None] | None
    says: str
    parts: int | None = None


class ToldLayout(NamedTuple):
    """What names and shapes tell of a matrix: the axes, and the line that says so."""

    axes: MatrixAxes | None
    line: Layout


def _beside(path: str, *names: str) -> str:
    """Return `path` with `names` in place of its last parts."""
    return "/".join([*path.split("/")[: -len(names)], *names])


def _beside_w(path: str, shapes: Shapes) -> bool:
    """Whether `(..., n)` stands beside a `w` of shape `(..., m, n)`: a bias in Haiku."""
    w = shapes.get(_beside(path, "w"), ())
    return len(w) >= 2 and shapes[path] == w[:-2] + w[-1:]


def _attention_input(path: str, shapes: Shapes) -> MatrixAxes | None:
    """Return the axes of `(..., d, heads, k)` with an output `(..., heads, k, d)` beside it.

    A dense layer of that name, scanned to `(layers, d, n)`, has no such neighbour.
    """
    shape, out = shapes[path], shapes.get(_beside(path, "out", "kernel"), ())
    stack = len(shape) - 3
    if stack < 0 or len(out) != len(shape) or out[:stack] != shape[:stack]:
        return None
    if out[stack + 1 :] != (shape[stack + 2], shape[stack]):
        return None
    return MatrixAxes(stack, (stack + 1, stack + 2), range(stack))


def _attention_output(path: str, shapes: Shapes) -> MatrixAxes | None:
    """Return the axes of the output `(..., heads, k, d)` of such an attention."""
    query = _beside(path, "query", "kernel")
    if query not in shapes or _attention_input(query, shapes) is None:
        return None
    stack = len(shapes[path]) - 3
    return MatrixAxes((stack, stack + 1), stack + 2, range(stack))


_LORA = re.compile(r"(.*lora[_/])([ab])(?=/|$)", re.IGNORECASE)


def _lora_factor(path: str, shapes: Shapes) -> MatrixAxes | None:
    """Return the axes of a factor of a low-rank adapter, which the shapes of both factors tell.

    The first is `(..., in, rank)` and the second `(..., rank, out)`, or both are stored the other
    way round. Either side may have several axes, and stacks come first.
    """
    found = _LORA.match(path)
    if found is None:
        return None
    is_first = found[2] in "aA"
    other = found[1] + ("bB" if is_first else "aA")[found[2].isupper()] + path[found.end() :]
    shape, partner = shapes[path], shapes.get(other, ())
    first, second = (shape, partner) if is_first else (partner, shape)
    fitting = []
    for stack in range(min(len(first), len(second)) - 1):
        if first[:stack] != second[:stack]:
            break
        last = len(shape) - 1
        leading, trailing = range(stack + 1, len(shape)), range(stack, last)
        if _are_factors(first[stack:-1], first[-1], second[stack], second[stack + 1 :]):
            sides = (trailing, last) if is_first else (stack, leading)
            fitting.append(MatrixAxes(*sides, range(stack)))
        if _are_factors(first[stack + 1 :], first[stack], second[-1], second[stack:-1]):
            sides = (leading, stack) if is_first else (last, trailing)
            fitting.append(MatrixAxes(*sides, range(stack)))
    return fitting[0] if len(fitting) == 1 else None


def _are_factors(ins: tuple, rank: int, same_rank: int, outs: tuple) -> bool:
    return bool(ins and outs and rank == same_rank < min(math.prod(ins), math.prod(outs)))


_NORM = (
    r"(.*_)?([a-z]*norm|normali[sz]ation|ln|bn|gn)(_([a-z]|final|in|out|pre|post|before|after))?"
)
_CONV = r"(?!.*transpose).*conv.*/"  # of a transposed one nobody knows which axis is which

ROLES = (
    Naming(r"/(.*_)?(scale|gain|gamma|beta|offset|bias(_[a-z]{1,2})?(_l)?)", "vector"),
    Naming(rf"/{_NORM}|{_NORM}/(?!kernel$|w$)[^/]+", "vector"),  # norms have no `kernel`, layers do
    Naming("/b", "vector", _beside_w),
    Naming(r"(.*_)?(pos|rel)?emb(ed|edding|edder)?s?|wte|wpe|shared/weight", "embedding"),
    Naming(r"embed_(in|inputs?|tokens?|positions?|patch(es)?|labels?|targets?)", "embedding"),
    Naming(r"(.*_)?patch_emb(ed|edding|edder)?s?/(proj|projection|conv)/.*", "embedding"),
    Naming(r"/((.*_)?(tokens?|table)|cls|probe)", "embedding"),
    Naming(r"(?!.*(multi|attention|attn)_head)(.*_)?head", "head"),
    Naming(r"(?!pre_)((.*_)?(classifier|logits?(_?(dense|linear|layer|proj))?))", "head"),
    Naming(r"unembed.*|embed_out|readout|qa_outputs", "head"),
    Naming(r"(.*_)?router(_.*)?|(.*_)?moe(_.*)?/gate/.*", "head"),
)

LAYOUTS = (
    Layout(r"(.*_)?lora[_/][ab](/.*){0,2}", _lora_factor, "a factor of a low-rank adapter"),
    Layout(
        r"(?!.*einsum)(c_attn|(.*_)?w?qkv(_.*)?|query_key_value|in_proj_weight)", None, "fused", 3
    ),
    Layout(r"(?!.*einsum)((.*_)?(gate_up|up_gate)(_.*)?|w13|(.*_)?kv_proj)", None, "fused", 2),
    Layout(r"/weight_(ih|hh)(_l)?|dense_[ih]|gru/w_[ih]|lstm/linear/w", None, "fused gates"),
    Layout(r"(query|key|value)/kernel", _attention_input, "attention (d, heads, k)"),
    Layout(r"out/kernel", _attention_output, "attention (heads, k, d)"),
    Layout(_CONV + "(kernel|w)", MatrixAxes((0, 1, 2), 3), "convolution (kx, ky, in, out)"),
    Layout(_CONV + "weight", MatrixAxes((1, 2, 3), 0), "convolution (out, in, kx, ky)"),
    Layout(r"/weight", MatrixAxes(1, 0), "a 'weight' is (out, in)"),
    Layout(r".*", MatrixAxes(0, 1), "(in, out)"),
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
    names = tuple(map(_names, (path, *aliases)))
    for index, name in _fitting(tuple(line.names for line in ROLES), names):
        if ROLES[index].fits(path, shapes):
            return ROLES[index].role, name
    return None


def layout_by_name(path: str, shapes: Shapes, aliases: tuple[str, ...] = ()) -> ToldLayout | None:
    """Return the layout that names and shapes tell; None if no line fits.

    Arguments are as for `role_by_name`.
    """
    names = tuple(map(_names, (path, *aliases)))
    for index, _ in _fitting(tuple(line.names for line in LAYOUTS), names):
        line = LAYOUTS[index]
        axes = line.axes(path, shapes) if callable(line.axes) else line.axes
        if line.axes is None or (axes is not None and axes.rank == len(shapes[path])):
            return ToldLayout(axes, line)
    return None


def without_name(path: str, line: Layout) -> str:
    """Return `path` without the names that fit the line: `'blocks//kernel'`."""
    fits = _compiled(line.names).fullmatch
    told = lambda name: any(fits(text) or fits(f"/{text}") for text in _spellings(name))
    return "/".join("" if told(name) else name for name in path.split("/"))


def _names(path: str) -> tuple[str, str, str]:
    """Return the names of a leaf, of the module that holds it, and of the one above, leaf last."""
    names = [name for name in path.split("/") if not name.isdigit() and name not in ("layers", "~")]
    above, module, leaf = ("", "", "", *names)[-3:]
    return above, module, leaf


def _spellings(name: str) -> tuple[str, str]:
    """Return the words of a name, and the name as it is written, both in lower case."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return "_".join(words).lower(), name.lower()


@functools.lru_cache(maxsize=2**14)  # a model has many leaves and few names
def _fitting(
    patterns: tuple[str, ...], names: tuple[tuple[str, str, str], ...]
) -> list[tuple[int, str]]:
    """Return which patterns fit any of these names, each with the name that did."""
    texts = [pair for one in names for pair in _texts(*one)]
    fitting = []
    for index, pattern in enumerate(patterns):
        fits = _compiled(pattern).fullmatch
        told = (shown for text, shown in texts if fits(text))
        if (name := next(told, None)) is not None:
            fitting.append((index, name))
    return fitting


@functools.cache
def _compiled(names: str) -> re.Pattern:
    return re.compile(names.replace(".*", "[^/]*"))


def _texts(above: str, module: str, leaf: str) -> Iterator[tuple[str, str]]:
    """Yield what patterns are compared with, each with the name to show for it."""
    for a, m, n in zip(*map(_spellings, (above, module, leaf)), strict=True):
        for text in (n, f"/{n}"):
            yield text, leaf
        if m:
            yield m, module
            yield f"{m}/", module
            yield f"{m}/{n}", f"{module}/{leaf}"
            yield f"{a}/{m}/{n}", f"{module}/{leaf}"
