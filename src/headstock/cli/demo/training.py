"""Chapter 5: one training step with and without checkpointing."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from headstock.cli.demo.genera import FIRST_GENUS
from headstock.cli.demo.memory import LivingBytes
from headstock.cli.demo.report import Report
from headstock.cli.demo.rounding import deviation
from headstock.layers import set_gradient_checkpointing
from headstock.models.gpt2 import GPT2LMHeadModel

__all__ = ["show_training"]

ROWS, TOKENS = 2, 256


class Step(NamedTuple):
    """What one step gave: its loss, the gradient of each parameter, the most bytes alive at a time."""

    loss: Tensor
    gradients: dict[str, Tensor]
    peak: int


def show_training(report: Report, model: GPT2LMHeadModel) -> None:
    """Two steps from the same weights with the same dropout, one of them checkpointed."""
    model.train()
    ids = torch.randint(
        FIRST_GENUS, model.config.vocab_size, (ROWS, TOKENS), generator=torch.Generator().manual_seed(1)
    )
    with report.working(f"a training step on {ROWS} x {TOKENS} tokens"):
        plain = _step(model, ids)
    report.console.print(str(set_gradient_checkpointing(model, policy="full")))
    with report.working("the same step, checkpointed"):
        checkpointed = _step(model, ids)
    set_gradient_checkpointing(model, policy=None)
    difference = max(deviation(plain.gradients[name], checkpointed.gradients[name]) for name in plain.gradients)
    rows = [[name, f"{step.loss:.6f}", f"{step.peak / 2**20:.1f}"] for name, step in
            (("plain", plain), ("checkpointed", checkpointed))]  # fmt: skip
    report.table("A step in training mode, dropout 0.1", ["step", "loss", "peak MiB of living tensors"], rows)
    why = "same operations, same numbers, dropout replayed"
    report.check(
        "gradients with a value", len(checkpointed.gradients), len(plain.gradients) - 1, "as many", below=False
    )
    report.check("gradients, checkpointed - plain", difference, 0, why)
    report.check("peak memory, checkpointed / plain", checkpointed.peak / plain.peak, 1, "activations are not kept")


def _step(model: GPT2LMHeadModel, ids: Tensor) -> Step:
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]), LivingBytes() as counted:
        torch.manual_seed(2)
        logits = model(ids).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        del logits
        loss.backward()
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return Step(loss.detach(), found, counted.peak)
