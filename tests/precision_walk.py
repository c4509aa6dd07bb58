"""Find the products of a lowered program that leave their precision to the accelerator, or lie.

TPUs multiply float32 in one pass of bfloat16 and recent GPUs in TF32 unless a product says
otherwise. Lowering for them works on a CPU, and nothing has to be compiled or run.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

import gradsmith as gs

ACCELERATORS = ("cuda", "tpu")
NAMES = {
    ("bf16", "1"): "bfloat16",
    ("bf16", "3"): "bfloat16_3x",
    ("f16", "1"): "float16",
    ("tf32", "1"): "tfloat32",
}
PRODUCTS = ("stablehlo.dot_general", "stablehlo.dot", "stablehlo.convolution")


def silent_products(function: Callable, *arguments: Any, target: str) -> list[str]:
    """File and line of each product of floats in `function` that does not say its precision."""
    return [
        place(product)
        for product in products(function, *arguments, target=target)
        if not says_its_precision(product)
    ]


def undeclared(function: Callable, *arguments: Any, target: str, declared: set[str]) -> list[str]:
    """File and line of each product of floats that is in no arithmetic that is declared."""
    return [
        f"{place(product)} in {arithmetic_of(product)}"
        for product in products(function, *arguments, target=target)
        if arithmetic_of(product) not in declared
    ]


def arithmetic_of(product: Any) -> str | None:
    """What its operands are rounded to, by the names of `gradsmith`; None if nothing is said."""
    if "algorithm" in product.attributes:
        told = dict(re.findall(r"(\w+) = (\w+)", str(product.attributes["algorithm"])))
        assert told["lhs_precision_type"] == told["rhs_precision_type"]
        assert told["accumulation_type"] == "f32"
        return NAMES[told["lhs_precision_type"], told["num_primitive_operations"]]
    return "float32" if both(product).count("HIGHEST") == 2 else None


def both(product: Any) -> str:
    return str(product.attributes["precision_config"])


def products(function: Callable, *arguments: Any, target: str) -> list[Any]:
    """The products of floats in the StableHLO of `function`, traced and lowered for a target."""
    with gs.target(target):
        lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=(target,))
    module = lowered.compiler_ir("stablehlo").operation
    return [op for op in operations(module) if op.name in PRODUCTS and is_of_floats(op)]


def operations(operation: Any) -> Iterator[Any]:
    """Yield what stands in an operation, at any depth."""
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from operations(inner.operation)


def is_of_floats(product: Any) -> bool:
    return "i" not in str(product.operands[0].type.element_type)


def says_its_precision(product: Any) -> bool:
    if "algorithm" in product.attributes:
        return True
    return "DEFAULT" not in both(product)


def place(product: Any) -> str:
    """The innermost line of Python that is neither JAX's nor the one of all products."""
    lines = re.findall(r'"([^"]+\.py)":(\d+)', str(product.location))
    others = [line for line in lines if not line[0].endswith("xla/arithmetic.py")]
    return ":".join((others or lines)[0]) if lines else str(product.location)
