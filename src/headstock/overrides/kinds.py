"""The kinds of models that can be overridden."""

from torch import nn

from headstock.overrides.contract import ModelKind, refuse_kind
from headstock.overrides.reference import ReferenceModels

__all__ = ["KINDS", "kind_of"]

#: Asked in this order. `headstock.integrations.transformers` puts its own in front when it is imported.
KINDS: list[ModelKind] = [ReferenceModels()]


def kind_of(model: nn.Module) -> ModelKind:
    """The first kind that takes `model`.

    Raises:
        UnsupportedFeature: there is none.
    """
    for kind in KINDS:
        if kind.takes(model):
            return kind
    raise refuse_kind(model)
