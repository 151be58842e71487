"""Chapter 2: a head removed from the weights, against the same head silenced by an override of one layer."""

import functools
from typing import Any

from torch import Tensor

from headstock.cli.demo.report import Report
from headstock.cli.demo.rounding import WHY, deviation
from headstock.cli.demo.sentences import PAIRS, cosines, hidden_states
from headstock.cli.demo.similarity import Encoded
from headstock.models.bert import BertModel

__all__ = ["show_pruning"]

LAYER, HEAD = 2, 5


def show_pruning(report: Report, encoded: Encoded) -> None:
    """Prune one head, silence the same head in another model, and compare."""
    pruned = BertModel.from_pretrained(encoded.folder, "eager")
    pruned.prune_heads({LAYER: [HEAD]})
    silenced = BertModel.from_pretrained(encoded.folder, "eager")
    silence_head(silenced, LAYER, HEAD)
    states = {
        "pruned": hidden_states(pruned, encoded.ids, encoded.keep),
        "silenced": hidden_states(silenced, encoded.ids, encoded.keep),
    }
    tables = {name: cosines(state, encoded.keep) for name, state in {"all heads": encoded.eager, **states}.items()}
    rows = [[name, *(f"{table[a, b]:.6f}" for a, b in PAIRS)] for name, table in tables.items()]
    report.table("Similarity of the same pairs", ["model", *(f"{a + 1} / {b + 1}" for a, b in PAIRS)], rows)
    query = pruned.layers[LAYER].attention.self.query
    report.console.print(f"layer {LAYER}'s query projection is {query.in_features} x {query.out_features} now")
    report.check(
        "hidden states, pruned - silenced", deviation(states["pruned"], states["silenced"]), encoded.limit, WHY
    )
    report.check(
        "hidden states, pruned - all heads",
        deviation(states["pruned"], encoded.eager),
        encoded.limit,
        "the head did something",
        below=False,
    )


def silence_head(model: BertModel, layer: int, head: int) -> None:
    """Shadow `eager` in one layer by a function that computes the same and then zeroes one head."""
    table = model.layer_attention(layer)
    inherited: Any = table["eager"]

    @functools.wraps(inherited)
    def without_head(*args: Any, **keywords: Any) -> tuple[Tensor, Tensor | None]:
        output, weights = inherited(*args, **keywords)
        # [batch, queries, heads, head_dim]: heads stand third.
        return output.index_fill(2, output.new_tensor([head]).long(), 0.0), weights

    table["eager"] = without_head
