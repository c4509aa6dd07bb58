"""What exceptions usually mean: the cause, and the edit that mends it.

A rule is a function `(error, place, bench) -> (cause, change)`; it returns None where it does not
apply. The first of `RULES` that applies is told.
"""

import builtins
import difflib
import inspect
import re
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .bench import Bench
from .places import describe_function, is_library, is_library_file

_SIGNATURE = "def update_fn(updates, state, params=None):"
_PAIR = "return updates, new_state"


def _no_transformation(error, place, bench):
    match = re.search(r"'(\w+)' object has no attribute '(init|update)'", str(error))
    if not (isinstance(error, AttributeError) and match):
        return None
    return (
        f"a {match[1]} stands where a transformation is wanted",
        "end the function that makes it with `return optax.GradientTransformation(init_fn, "
        "update_fn)`",
    )


def formula(name: str) -> tuple[str, str]:
    """Return what is told of a function of a matrix that stands where a factory is wanted."""
    return (
        "it is a formula for one matrix, and a function that makes an optimizer is wanted",
        f"lift it, and name this function: `def make(learning_rate): return optax.chain("
        f"gradsmith.per_matrix({name}), optax.scale_by_learning_rate(learning_rate))`",
    )


def _formula_for_a_factory(error, place, bench):
    return formula(bench.subject.name) if bench.subject.is_formula else None


def _ends_the_program(error, place, bench):
    if not isinstance(error, SystemExit):
        return None
    return (
        "it ends the program that calls it; with the code 0, or none, that looks like a success",
        "raise an error that says what is wrong, such as a ValueError",
    )


def _undefined_name(error, place, bench):
    if not isinstance(error, NameError):
        return None
    known = []
    if place is not None:
        known = [*place.frame.f_locals, *place.frame.f_globals, *dir(builtins)]
    close = difflib.get_close_matches(error.name or "", known, n=1)
    change = f"define or import `{error.name}` before this line"
    if close:
        change = f"write `{close[0]}` for `{error.name}`, or define `{error.name}`"
    return f"the name `{error.name}` is not defined where it is used", change


def _wrong_arity(error, place, bench):
    match = re.search(
        r"(\S+)\(\) takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) w",
        str(error),
    )
    if not (isinstance(error, TypeError) and match):
        return None
    name, takes, given = match.groups()
    if (takes, given) == ("2", "3"):
        return (
            f"`{name}` takes no `params`, and optax.chain always passes it",
            f"give it the signature `{_SIGNATURE}`",
        )
    return f"`{name}` is called with {given} arguments and takes {takes}", ""


def _missing_params(error, place, bench):
    if not (isinstance(error, TypeError) and "positional argument: 'params'" in str(error)):
        return None
    return "`params` has no default, and it may be left out", f"write `{_SIGNATURE}`"


def _missing_extra_argument(error, place, bench):
    match = re.search(r"missing \d+ required keyword-only arguments?: (.*)", str(error))
    if not (isinstance(error, TypeError) and match):
        return None
    return (
        f"`update` wants the extra arguments {match[1]}, which the subject does not declare",
        "declare them: Subject(..., extra_args=lambda loss, params, grads: "
        '{"value": loss(params), ...})',
    )


def _missing_factory_argument(error, place, bench):
    match = re.search(r"missing \d+ required positional arguments?: (.*)", str(error))
    if not (isinstance(error, TypeError) and match) or place is not None:
        return None
    return (
        f"the factory wants {match[1]}, and nobody says what to pass",
        "pass them: --arg name=value, or Subject(..., arguments={...})",
    )


def _not_a_pair(error, place, bench):
    text = str(error)
    unpacking = re.search(r"(too many|not enough) values to unpack", text)
    if not (isinstance(error, ValueError | TypeError) and (unpacking or "non-iterable" in text)):
        return None
    function = _function_called_in_chain(error)
    if function is None:
        return None
    return (
        f"{describe_function(function)} does not return two values",
        f"end it with `{_PAIR}`; optax.chain unpacks exactly two",
    )


def _function_called_in_chain(error: BaseException) -> Callable | None:
    """The member whose return value `optax.chain` could not unpack, read from the last frame."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames or not is_library_file(frames[-1].f_code.co_filename):
        return None
    called = frames[-1].f_locals.get("fn")
    while called is not None and is_library(called):
        inner = inspect.getclosurevars(called).nonlocals.get("tx")  # with_extra_args_support
        called = getattr(inner, "update", None)
    return called


def _tree_as_array(error, place, bench):
    """A matrix function on the whole tree: it works when the tree is one matrix."""
    if place is None or bench.subject.params is not None:
        return None
    function = "matrix_ops" if place.function == "update_fn" else place.function
    leafwise = f"jax.tree.map(lambda x: {function}(x) if x.ndim == 2 else x, tree)"
    if isinstance(bench.params, jax.Array) or not _runs_on(bench, jnp.ones((4, 3))):
        return None
    if not _runs_on(bench, {"kernel": jnp.ones((4, 3))}):
        return (
            "a function for one array is called on the whole tree: everything works when the "
            "parameters are a single matrix",
            f"apply it leaf by leaf: {leafwise}",
        )
    if not _runs_on(bench, {"bias": jnp.ones((3,))}):
        return (
            "a function for matrices is called on a leaf that is none: everything works when all "
            "leaves are matrices, and a bias of shape (3,) breaks it",
            f"guard it: {leafwise}",
        )
    return None


def _runs_on(bench: Bench, params: Any) -> bool:
    def step(params):
        return bench.update(params, bench.tx.init(params), params)

    try:
        jax.eval_shape(step, params)
    except (Exception, SystemExit):
        return False
    return True


def _branch_on_tracer(error, place, bench):
    if not isinstance(
        error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError
    ):
        return None
    return (
        "Python looks at a number that jit has not computed yet (an `if`, float(), int(), "
        "np.asarray, .item())",
        "use jnp.where or jax.lax.cond; check arguments only while they are plain numbers: "
        "`if isinstance(x, float) and ...`",
    )


def _leaked_tracer(error, place, bench):
    if not isinstance(error, jax.errors.UnexpectedTracerError):
        return None
    return (
        "a traced value was kept in Python: an attribute, a global, or a mutated container",
        "keep everything that changes in the state that `update` returns",
    )


def _promotion(error, place, bench):
    if type(error).__name__ != "TypePromotionError":
        return None
    return (
        "arrays of different dtypes meet, and jax_numpy_dtype_promotion is strict",
        "convert one of them with .astype, or run under jax.numpy_dtype_promotion('standard')",
    )


def _made_for_other_params(error, place, bench):
    if "the parameters have no leaf" not in str(error):
        return None
    return (
        "the factory declares leaves of one model, and the checks bring parameters of their own",
        "make what names the leaves a parameter of the factory with a default: `axes=None`",
    )


def _scan_carry(error, place, bench):
    if not (isinstance(error, TypeError) and "carry" in str(error)):
        return None
    return (
        "the state changes its structure, shape, dtype or weak type in a step",
        "return a state of exactly the types that `init` made",
    )


RULES = (
    _ends_the_program,
    _no_transformation,
    _formula_for_a_factory,
    _undefined_name,
    _wrong_arity,
    _missing_params,
    _missing_extra_argument,
    _missing_factory_argument,
    _not_a_pair,
    _branch_on_tracer,
    _leaked_tracer,
    _promotion,
    _made_for_other_params,
    _scan_carry,
    _tree_as_array,
)
