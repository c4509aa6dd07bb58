"""The catalogue: every technique here, what it keeps and costs, and how good the evidence is.

What can be measured is: state elements by `jax.eval_shape`, flops from the products in the traced
update. `benchmarks/catalogue_cycles.py` writes the cycles. The rest, tier and paper, stands here.
"""

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import optimizers
from .lift.per_matrix import per_matrix
from .lift.per_stack import per_stack
from .transforms.adam import scale_by_adam
from .transforms.ademamix import scale_by_ademamix
from .transforms.average_tail import average_tail
from .transforms.average_weights import average_weights
from .transforms.brake_radius import brake_radius, pin_radius
from .transforms.ema_nesterov import ema_nesterov
from .transforms.entry_rms import scale_by_entry_rms
from .transforms.floor_update import floor_update
from .transforms.graft import graft
from .transforms.hyperball import hyperball
from .transforms.mars import correct_by_mars
from .transforms.momentum import momentum
from .transforms.namo import scale_by_namo
from .transforms.neuron_rms import scale_by_neuron_rms
from .transforms.normalize_neurons import normalize_neurons
from .transforms.orthogonalize import orthogonalize, polar_factor
from .transforms.orthogonalize_largest import orthogonalize_largest
from .transforms.psgd import scale_by_psgd
from .transforms.qk_clip import qk_clip
from .transforms.quantize_state import quantize_state
from .transforms.shampoo import scale_by_shampoo
from .transforms.soap import scale_by_soap
from .transforms.steepest import steepest_step
from .transforms.weight_decay import decay_weights, decay_weights_cautiously
from .transforms.whiten_momentum import whiten_momentum

Kind = Literal["optimizer", "direction", "learning rate", "displacement"]


@dataclass(frozen=True)
class Technique:
    """One line of the catalogue.

    Attributes:
        name: How it is written.
        kind: An optimizer, or where it stands: before the learning rate, in its place, or after it.
        make: Builds it for a tree of matrices.
        documented: What the line is about is the first line of its docstring.
        whole: Whether it needs each matrix whole, so that a sharded one travels.
        tier: How good the evidence is: 1, replicated or in production; 2, one strong independent
            source; 3, that of its authors; 0, a part that everything is made of.
        paper: Where it is from.
    """

    name: str
    kind: Kind
    make: Callable[[], optax.GradientTransformation]
    documented: Callable[..., Any]
    whole: bool
    tier: int
    paper: str

    @property
    def line(self) -> str:
        """What it is, in one line."""
        return (inspect.getdoc(self.documented) or "").splitlines()[0].removesuffix(".")

    @property
    def state(self) -> str:
        """The elements it keeps for a matrix `(m, n)`, `m < n`, but for counters."""
        narrow = _polynomial(lambda m, n: self.state_elements(m, n, narrow=True))
        wide = _polynomial(self.state_elements)
        return wide if narrow == "0" else f"{wide}, and {narrow} in 8 bits"

    def state_elements(self, m: int, n: int, *, narrow: bool = False) -> int:
        """Count the elements of the state of one matrix; scalars are counters and left out.

        Those of 8 bits are counted apart, if `narrow`.
        """
        state = jax.eval_shape(self.make().init, _matrix(m, n))
        counted = [x for x in jax.tree.leaves(state) if (x.dtype == jnp.int8) == narrow]
        return sum(math.prod(x.shape) for x in counted if x.shape)

    def flops(self, m: int, n: int) -> tuple[float, float]:
        """Count the flops of the products of a step: of one between refreshes, and of a refresh.

        Decompositions are no products, and a loop that stops by itself counts once.
        """
        tx, params = optax.with_extra_args_support(self.make()), _matrix(m, n)
        extra = {"max_logits": params} if self.documented is qk_clip else {}
        state = jax.eval_shape(tx.init, params)
        traced = jax.make_jaxpr(lambda g, s, p, extra: tx.update(g, s, p, **extra))(
            params, state, params, extra
        )
        return _products(traced.jaxpr, min), _products(traced.jaxpr, max)


def _optimizer(
    function: Callable, tier: int, paper: str, *, whole: bool = True, **arguments: Any
) -> Technique:
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    name = function.__name__ + (f"({shown})" if shown else "")
    make = lambda: function(0.01, **arguments)
    return Technique(name, "optimizer", make, function, whole, tier, paper)


def _part(
    function: Callable,
    tier: int,
    paper: str,
    *,
    lift: Callable | None = None,
    whole: bool = False,
    kind: Kind = "direction",
    arguments: tuple = (),
) -> Technique:
    make = lambda: function(*arguments) if lift is None else lift(function(*arguments))
    return Technique(function.__name__, kind, make, function, whole or bool(lift), tier, paper)


RECORDS = "github.com/KellerJordan/modded-nanogpt"

TECHNIQUES: tuple[Technique, ...] = (
    _optimizer(optimizers.muon, 1, "kellerjordan.github.io/posts/muon"),
    _optimizer(optimizers.soap, 1, "arXiv:2409.11321"),
    _optimizer(optimizers.soap, 1, "arXiv:2509.03378", factors="kl"),
    _optimizer(optimizers.normuon, 2, "arXiv:2510.05491"),
    _optimizer(optimizers.soap_muon, 2, RECORDS),
    _optimizer(optimizers.forge, 3, RECORDS),
    _optimizer(optimizers.muoneq, 2, "github.com/qlabs-eng/slowrun"),
    _optimizer(optimizers.muonh, 2, RECORDS),
    _optimizer(optimizers.adamh, 2, RECORDS),
    _optimizer(optimizers.kron, 2, "arXiv:2402.04553"),
    _optimizer(optimizers.shampoo, 2, "arXiv:2309.06497"),
    _optimizer(optimizers.asgo, 2, "arXiv:2503.20762"),
    _optimizer(optimizers.mars_muon, 2, "arXiv:2510.21800"),
    _optimizer(optimizers.mars_adamw, 2, "arXiv:2411.10438", whole=False),
    _optimizer(optimizers.ademamix, 2, "arXiv:2409.03137", whole=False),
    _optimizer(optimizers.scion, 3, "arXiv:2502.07529"),
    _optimizer(optimizers.adamuon, 3, "arXiv:2507.11005"),
    _optimizer(optimizers.namo, 3, "arXiv:2602.17080"),
    _optimizer(optimizers.dion2, 3, "arXiv:2512.16928"),
    _part(momentum, 0, "kellerjordan.github.io/posts/muon"),
    _part(scale_by_adam, 0, "arXiv:1412.6980"),
    _part(orthogonalize, 1, "kellerjordan.github.io/posts/muon", whole=True),
    _part(polar_factor, 1, "kellerjordan.github.io/posts/muon", lift=per_stack),
    _part(scale_by_soap, 1, "arXiv:2409.11321", lift=per_stack),
    _part(decay_weights, 1, "arXiv:1711.05101", arguments=(0.1,)),
    _part(decay_weights_cautiously, 1, "arXiv:2510.12402", arguments=(0.1,)),
    _part(whiten_momentum, 2, RECORDS, lift=per_stack),
    _part(scale_by_neuron_rms, 2, "arXiv:2510.05491", lift=per_stack),
    _part(normalize_neurons, 2, "github.com/qlabs-eng/slowrun", lift=per_stack),
    _part(floor_update, 2, RECORDS, lift=per_stack),
    _part(brake_radius, 2, RECORDS, lift=per_stack),
    _part(scale_by_psgd, 2, "arXiv:2402.04553", lift=per_stack),
    _part(scale_by_shampoo, 2, "arXiv:2309.06497", lift=per_stack),
    _part(
        graft,
        2,
        "arXiv:2002.11803",
        lift=per_stack,
        arguments=(optax.identity(), optax.identity()),
    ),
    _part(correct_by_mars, 2, "arXiv:2411.10438", lift=per_matrix),
    _part(scale_by_ademamix, 2, "arXiv:2409.03137"),
    _part(hyperball, 2, RECORDS, lift=per_stack, kind="learning rate", arguments=(0.018,)),
    _part(pin_radius, 2, RECORDS, lift=per_stack, kind="displacement"),
    _part(qk_clip, 2, "arXiv:2507.20534", kind="displacement", arguments=({"kernel": 0.5},)),
    _part(average_weights, 2, "arXiv:1703.01780", kind="displacement"),
    _part(average_tail, 2, RECORDS, kind="displacement", arguments=(2400,)),
    _part(ema_nesterov, 2, RECORDS, kind="displacement"),
    _part(quantize_state, 3, "arXiv:2509.23106", arguments=(momentum(),)),
    _part(steepest_step, 3, "arXiv:2502.07529", arguments=("sign",)),
    _part(orthogonalize_largest, 3, "arXiv:2512.16928", whole=True),
    _part(scale_by_entry_rms, 3, "arXiv:2507.11005", lift=per_stack),
    _part(scale_by_namo, 3, "arXiv:2602.17080", lift=per_stack, arguments=(polar_factor(),)),
)
"""All of them: the optimizers by evidence, then their parts."""

COLUMNS = ("name", "what it is", "stands", "state", "GFLOP", "Mcycles", "travels", "tier", "paper")
STANDS: dict[Kind, str] = {
    "optimizer": "",
    "direction": "before the rate",
    "learning rate": "in its place",
    "displacement": "after it",
}
SHAPE = (768, 3072)  # of the matrix whose flops and cycles are shown
CYCLES = Path(__file__).with_name("cycles_v5e.json")


def read_cycles() -> dict[str, str]:
    """Return the estimates of the compiler that the name of the file tells, by technique."""
    return json.loads(CYCLES.read_text())


def rows() -> list[tuple[str, ...]]:
    """Return the cells of the table, technique by technique, in the order of `COLUMNS`."""
    cycles = read_cycles()
    return [
        (
            t.name,
            t.line,
            STANDS[t.kind],
            t.state,
            _gigaflops(t),
            cycles.get(t.name, ""),
            "whole matrices" if t.whole else "",
            str(t.tier or ""),
            t.paper,
        )
        for t in TECHNIQUES
    ]


def as_markdown() -> str:
    """Return the table as docs/catalogue.md has it."""
    code = lambda cells: (f"`{cells[0]}`", *cells[1:])
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(code, rows())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _gigaflops(technique: Technique) -> str:
    plain, refresh = (f"{flops / 1e9:.1f}" for flops in technique.flops(*SHAPE))
    if plain == refresh:
        return "" if plain == "0.0" else plain
    return f"{plain}, refresh {refresh}"


def _matrix(m: int, n: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {"kernel": jax.ShapeDtypeStruct((m, n), jnp.float32)}


def _polynomial(count: Callable[[int, int], int]) -> str:
    """Name the polynomial in `m` and `n`, of integer coefficients, that gives these counts."""
    terms = {"mn": lambda m, n: m * n, "m²": lambda m, n: m * m, "n²": lambda m, n: n * n,
             "m": lambda m, n: m, "n": lambda m, n: n, "": lambda m, n: 1}  # fmt: skip
    shapes = [(8, 24), (16, 24), (8, 40), (24, 32), (16, 56), (32, 72), (40, 48)]
    table = np.array([[term(*shape) for term in terms.values()] for shape in shapes], np.float64)
    counts = np.array([count(*shape) for shape in shapes], np.float64)
    fitted = np.rint(np.linalg.lstsq(table, counts)[0]).astype(int)
    if (table @ fitted != counts).any():
        raise ValueError(f"the counts {counts} of shapes {shapes} are no polynomial")
    named = zip(terms, fitted, strict=True)
    shown = [f"{'' if c == 1 and name else c}{name}" for name, c in named if c]
    return " + ".join(shown) or "0"


def _products(jaxpr: Any, choose: Callable[[list[float]], float]) -> float:
    """Count the flops of all products; of the branches of a `cond`, those of one."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            size = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * size
        elif equation.primitive.name == "cond":
            branches = equation.params["branches"]
            total += choose([_products(branch.jaxpr, choose) for branch in branches])
        else:
            times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            total += times * sum(_products(sub, choose) for sub in _inner(equation.params))
    return total


def _inner(params: dict[str, Any]) -> list[Any]:
    found = [params[key] for key in ("jaxpr", "call_jaxpr", "body_jaxpr") if key in params]
    return [getattr(jaxpr, "jaxpr", jaxpr) for jaxpr in found]
