"""The flops of a matrix product, however a compiler writes it.

A `dot` stays one in programs for CPUs, and within the fusions that XLA gives to Triton. For the
rest, XLA calls cuBLAS on GPUs; ROCm's libraries go by the same names. On TPUs a product is a
convolution without a window, or with one that walks over the stack.
"""

import math
import re
from collections.abc import Sequence

from .text import Instruction, arrays

_PRECISION = re.compile(r"operand_precision=\{(\w+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_TRITON = re.compile(r'"kind":"(__triton\w*)"')
_BY_CUBLAS = {"__cublas$gemm", "__cublas$lt$matmul", "__cublas$lt$matmul$f8"}
_WITHOUT_FLOPS = {
    "AllocateBuffer",
    "ConcatBitcast",
    "MoveToDevice",
    "MoveToHost",
    "PadToStatic",
    "SliceToDynamic",
    "TopK",
    "__cub$DeviceRadixSort",
    "annotate_device_placement",
    "cu_threefry2x32_ffi",
}


def product_flops(instruction: Instruction, shapes: dict[str, str]) -> float | None:
    """Return the flops of an instruction that is a matrix product; of any other, None.

    Args:
        instruction: Of a compiled program.
        shapes: The types of the results of its computation, by name.
    """
    if instruction.operation == "convolution":
        labels = re.search(r"dim_labels=(\w+?)_", instruction.rest)
        left = arrays(shapes[instruction.first_operand()])[0]
        return _flops(instruction.result, [left.shape[labels[1].index("f")]] if labels else [])
    if instruction.operation == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
    elif called(instruction) in _BY_CUBLAS:
        contracted = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.rest)
    else:
        return None
    axes = re.findall(r"\d+", contracted[1]) if contracted else []
    left = arrays(shapes[instruction.first_operand()])[0]
    return _flops(instruction.result, [left.shape[int(axis)] for axis in axes])


def precision_of(instruction: Instruction) -> str:
    """Return what the product was asked for: 'highest', 'high', or 'default'."""
    found = _PRECISION.search(instruction.rest)
    return "default" if found is None else found[1]


def uncounted_call(instruction: Instruction) -> str | None:
    """Return what is called that may hold flops which the text does not tell, as cuDNN's do."""
    target = called(instruction)
    known = target is None or target in _BY_CUBLAS or target in _WITHOUT_FLOPS
    return None if known else target


def library_call(instruction: Instruction) -> str | None:
    """Return the function of a library, or the kernel of Triton, that an instruction is."""
    kernel = _TRITON.search(instruction.rest) if instruction.operation == "fusion" else None
    target = called(instruction)
    return kernel[1] if kernel else None if target in _WITHOUT_FLOPS else target


def called(instruction: Instruction) -> str | None:
    """Return what a custom call calls; of any other instruction, None."""
    found = _TARGET.search(instruction.rest) if instruction.operation == "custom-call" else None
    return None if found is None else found[1]


def _flops(result: str, contracted: Sequence[int]) -> float:
    made = arrays(result)[0]  # behind it, cuBLAS has its workspace
    complex_ = 4 if made.dtype.startswith("c") else 1
    return 2.0 * complex_ * made.size * math.prod(contracted)
