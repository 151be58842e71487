"""Whether a call is being transformed by torch.func, or differentiated in forward mode."""

import torch
from torch.autograd import forward_ad

__all__ = ["is_transformed"]


def is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is under way; in a graph that is being made, torch sees to it.

    What is fused has no derivatives for them, and what is opaque to torch would take a tangent for zero.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
