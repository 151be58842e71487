"""Chapter 7: rows of projections as the file stores them, rotated in pairs, against rows in halves."""

from pathlib import Path

import torch

from headstock.cli.demo.english import PROMPT
from headstock.cli.demo.report import Report
from headstock.cli.demo.rounding import FACTOR, deviation, rounding_limit
from headstock.models.generation.text import TextModel
from headstock.models.gguf import read_gguf
from headstock.models.llama import LlamaConfig, LlamaForCausalLM

__all__ = ["show_layouts"]

WHY = f"{FACTOR} x float32's distance from float64"


@torch.no_grad()
def show_layouts(report: Report, smollm2: TextModel, file: Path) -> None:
    """Logits of both layouts, and of stored rows rotated in the wrong way."""
    ids = smollm2.tokens(PROMPT)
    halves = smollm2.model(ids).logits
    with report.working("the same in float64, to know the rounding error"):
        limit = rounding_limit(halves, smollm2.model.double()(ids).logits)
    del smollm2
    with report.working("reading the file again, its rows as they are stored"):
        stored = read_gguf(file, rotary_layout="interleaved")
    config = LlamaConfig(**stored.config)
    pairs = LlamaForCausalLM.from_tensors(config, stored.tensors, "sdpa")(ids).logits
    mistaken = config.with_fields(rotary_layout="half_split")
    wrong = LlamaForCausalLM.from_tensors(mistaken, stored.tensors, "sdpa")(ids).logits
    report.check("logits, stored rows in pairs - rows in halves", deviation(pairs, halves), limit, WHY)
    report.check("stored rows in halves, by mistake", deviation(wrong, halves), limit, "the order matters", below=False)
