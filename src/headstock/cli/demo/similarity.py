"""Chapter 1: one real model under three attention functions, one of them registered in ten lines."""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.syntax import Syntax
from torch import Tensor

from headstock.cli.demo import custom
from headstock.cli.demo.report import Report
from headstock.cli.demo.rounding import WHY, deviation, rounding_limit
from headstock.cli.demo.sentences import PAIRS, SENTENCES, cosines, hidden_states, tokenized
from headstock.models.bert import BertModel

__all__ = ["Encoded", "encode", "show_functions"]

NAMES = ("eager", "sdpa", custom.NAME)


@dataclass(frozen=True)
class Encoded:
    """The model, its input, eager's hidden states and how far others may be from them.

    Attributes:
        folder: where the weights are.
        model: the model, under `eager`.
        ids: the sentences.
        keep: which ids are no padding.
        eager: last hidden states.
        limit: largest deviation from `eager` that rounding explains.
    """

    folder: Path
    model: BertModel
    ids: Tensor
    keep: Tensor
    eager: Tensor
    limit: float


def encode(report: Report, folder: Path) -> Encoded:
    """Load MiniLM and encode the sentences, in float32 and once in float64."""
    with report.working("loading MiniLM (BERT, 22.7 million parameters)"):
        model = BertModel.from_pretrained(folder, attention="eager")
        ids, keep = tokenized(folder)
    with report.working("encoding in float32, and in float64 to know the rounding error"):
        eager = hidden_states(model, ids, keep)
        exact = hidden_states(BertModel.from_pretrained(folder, "eager", dtype=torch.float64), ids, keep)
    return Encoded(folder, model, ids, keep, eager, rounding_limit(eager, exact))


def show_functions(report: Report, encoded: Encoded, lines: str) -> None:
    """The similarity table under each function, and how far each is from eager."""
    report.console.print(Syntax(lines.rstrip(), "python", theme="ansi_light", background_color="default"))
    states = {name: _under(encoded, name) for name in NAMES}
    tables = {name: cosines(state, encoded.keep) for name, state in states.items()}
    for number, sentence in enumerate(SENTENCES, 1):
        report.console.print(f"  {number}  {sentence}")
    rows = [[f"{a + 1} / {b + 1}", *(f"{tables[name][a, b]:.6f}" for name in NAMES)] for a, b in PAIRS]
    deviations = (deviation(tables[name], tables["eager"]) for name in NAMES)
    rows.append(["largest deviation from eager", *(f"{each:.1e}" for each in deviations)])
    report.table("Similarity of sentences (cosine of mean hidden states)", ["sentences", *NAMES], rows)
    for name in NAMES[1:]:
        report.check(f"hidden states, {name} - eager", deviation(states[name], states["eager"]), encoded.limit, WHY)
    alike = min(tables["eager"][a, b].item() for a, b in PAIRS[:2])
    unlike = max(tables["eager"][a, b].item() for a, b in PAIRS[2:])
    report.check("similarity of sentences that mean the same", alike, unlike, "that of any other pair", below=False)


def _under(encoded: Encoded, name: str) -> Tensor:
    encoded.model.set_attention(name)
    try:
        return hidden_states(encoded.model, encoded.ids, encoded.keep)
    finally:
        encoded.model.set_attention("eager")
