import pytest
from torch import nn

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionInterface
from headstock.errors import UnsupportedFeature
from headstock.overrides import KINDS, ModelKind, apply, inspect, settings_for
from headstock.overrides.contract import Modules, Said
from headstock.overrides.kinds import kind_of
from headstock.overrides.reference import ReferenceModels
from tests.support.llama import tiny
from tests.support.overrides import overrides


class Attending(nn.Module):
    """A stranger's attention, which asks what is set for it."""


class Strangers(ModelKind):
    name = "strangers' models"

    def takes(self, model: nn.Module) -> bool:
        return any(isinstance(each, Attending) for each in model.modules())

    def attention(self, model: nn.Module) -> Modules:
        return {name: each for name, each in model.named_modules() if isinstance(each, Attending)}

    def interface(self, module: nn.Module) -> AttentionInterface:
        return ALL_ATTENTION_FUNCTIONS

    def checkpointing(self, model: nn.Module) -> Modules:
        return {}

    def rotating(self, model: nn.Module) -> Modules:
        return {}

    def attention_said(self, module: nn.Module) -> Said:
        return Said("auto", "here")

    def mask_said(self, model: nn.Module, module: nn.Module) -> Said:
        return Said("none", "here")


def test_a_kind_of_ones_own_is_all_that_a_strange_model_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(Attending(), Attending())
    with pytest.raises(
        UnsupportedFeature, match=r"got Sequential; register a kind of your own in headstock.overrides.KINDS"
    ):
        kind_of(model)
    monkeypatch.setattr("headstock.overrides.kinds.KINDS", [*KINDS, Strangers()])
    with apply(model, overrides(attention="eager")):
        settings = settings_for(model[1])
        assert settings is not None
        assert settings.implementation == "eager"
        assert [each.attention.text for each in inspect(model).layers] == ["eager", "eager"]
    assert settings_for(model[1]) is None


def test_our_models_are_taken_as_ours_whatever_holds_them() -> None:
    assert isinstance(kind_of(nn.Sequential(nn.Sequential(tiny()))), ReferenceModels)


@pytest.mark.parametrize(
    "asked",
    [
        lambda kind, model: kind.takes(model),
        lambda kind, model: kind.attention(model),
        lambda kind, model: kind.interface(model),
        lambda kind, model: kind.checkpointing(model),
        lambda kind, model: kind.rotating(model),
        lambda kind, model: kind.rotary(model, model, {}),
        lambda kind, model: kind.attention_said(model),
        lambda kind, model: kind.mask_said(model, model),
        lambda kind, model: kind.rope_said(model, model),
        lambda kind, model: kind.checkpoint_said(model),
    ],
)
def test_what_a_kind_must_say_itself(asked: object) -> None:
    with pytest.raises(NotImplementedError):
        asked(ModelKind(), nn.Identity())  # type: ignore[operator]
