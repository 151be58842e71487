"""Chapter 3: an override in one of two models; the other one does not notice."""

import textwrap
from typing import Any

from torch import Tensor

from headstock.cli.demo.report import Report
from headstock.cli.demo.rounding import deviation
from headstock.cli.demo.sentences import hidden_states
from headstock.cli.demo.similarity import Encoded
from headstock.models.bert import BertModel

__all__ = ["show_override"]

NEVER = "overrides are local and leave no trace"


def mean_of_values(
    _module: object, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    """Attention that looks at nothing: each query gets the mean of the values that it may see."""
    scores = query.new_zeros(query.shape[:3] + key.shape[2:3])
    weights = (scores if mask is None else scores + mask).softmax(-1)
    return (weights @ value).transpose(1, 2), None


def show_override(report: Report, encoded: Encoded) -> None:
    """Shadow `eager` in the first of two models, ask both where theirs comes from, and take it away again."""
    first, second = encoded.model, BertModel.from_pretrained(encoded.folder, "eager")
    before = {name: _states(model, encoded) for name, model in (("first", first), ("second", second))}
    first.attention["eager"] = mean_of_values
    during = {name: _states(model, encoded) for name, model in (("first", first), ("second", second))}
    for name, model in (("first", first), ("second", second)):
        report.console.print(f'{name}.attention.where("eager"):')
        where = textwrap.indent(str(model.attention.where("eager")), "  ")
        report.console.print(where, soft_wrap=True, highlight=False, markup=False)
    del first.attention["eager"]
    after = _states(first, encoded)
    changed, limit = deviation(during["first"], before["first"]), encoded.limit
    report.check("first model, overridden - before", changed, limit, "it runs another function", below=False)
    report.check("second model, its numbers - before", deviation(during["second"], before["second"]), 0, NEVER)
    report.check("first model, override deleted - before", deviation(after, before["first"]), 0, NEVER)


def _states(model: BertModel, encoded: Encoded) -> Tensor:
    return hidden_states(model, encoded.ids, encoded.keep)
