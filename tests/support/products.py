"""Products as budgets suppose them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["exact_products"]


@contextmanager
def exact_products() -> Iterator[None]:
    """Products on CUDA devices neither round float32 to TF32 nor sum in half precision, as every budget supposes."""
    matmul, precision = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    words = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = {word: getattr(matmul, word) for word in words}
    torch.set_float32_matmul_precision("highest")
    for word in words:
        setattr(matmul, word, False)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        for word, was in before.items():
            setattr(matmul, word, was)
