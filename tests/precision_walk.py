"""Find the products of a lowered program that leave their precision to the accelerator.

TPUs multiply float32 in one pass of bfloat16 and recent GPUs in TF32 unless a product says
otherwise. Lowering for them works on a CPU, and nothing has to be compiled or run.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

import gradsmith as gs

ACCELERATORS = ("cuda", "tpu")
PRODUCTS = ("stablehlo.dot_general", "stablehlo.dot", "stablehlo.convolution")


def silent_products(function: Callable, *arguments: Any, target: str) -> list[str]:
    """File and line of each product of floats in `function` that does not say its precision."""
    return [
        place(product)
        for product in products(function, *arguments, target=target)
        if not says_its_precision(product)
    ]


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
    return "DEFAULT" not in str(product.attributes["precision_config"])


def place(product: Any) -> str:
    """The innermost line of Python that is not JAX's own."""
    found = re.search(r'"([^"]+\.py)":(\d+)', str(product.location))
    return ":".join(found.groups()) if found else str(product.location)
