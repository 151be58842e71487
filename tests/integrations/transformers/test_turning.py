from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from headstock.errors import InvalidShape, MisplacedScope, UnsupportedFeature
from headstock.integrations.transformers.turning import layers_of, rotary_for, rotary_module, said, turn
from headstock.overrides import apply
from headstock.rope.embedding import RotaryEmbedding
from headstock.rope.settings import ROPE_SETTINGS, RopeSetting
from tests.support.overrides import in_layers, overrides
from tests.support.transformers_overrides import headstock_installed, under


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with headstock_installed():
        yield


def rotary(head_dim: int = 8) -> RotaryEmbedding:
    return RotaryEmbedding({"head_dim": head_dim, "rope_parameters": {"rope_type": "default", "rope_theta": 10.0}})


def turned(**keywords: Any) -> Any:
    layer = nn.Identity()
    ROPE_SETTINGS.lay(layer, "a", RopeSetting(rotary=rotary(), key="a"))
    return turn(layer, keywords)


POSITIONS, GIVEN = torch.arange(5)[None], (torch.zeros(1, 5, 8), torch.zeros(1, 5, 8))


def test_embeddings_are_replaced_and_nothing_else() -> None:
    keywords = turned(position_embeddings=GIVEN, position_ids=POSITIONS, other=3)
    assert (keywords["other"], keywords["position_ids"] is POSITIONS) == (3, True)
    for got, expected in zip(keywords["position_embeddings"], rotary()(torch.empty(0), POSITIONS), strict=True):
        assert torch.equal(got, expected)
    assert turn(nn.Identity(), {"other": 3}) == {"other": 3}


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"position_embeddings": GIVEN},
        {"position_ids": POSITIONS},
        {"position_embeddings": GIVEN[0], "position_ids": POSITIONS},
        {"position_embeddings": (GIVEN[0], None), "position_ids": POSITIONS},
        {"position_embeddings": GIVEN[:1], "position_ids": POSITIONS},
    ],
)
def test_a_layer_that_is_given_something_else_is_refused(keywords: Any) -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"must be given position_embeddings \(cosines, sines\) and position_ids by"
    ):
        turned(**keywords)


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(InvalidShape, match="must be as wide as the model's, 6 channels, got 8"):
        turned(position_embeddings=(torch.zeros(1, 5, 6),) * 2, position_ids=POSITIONS)


def test_the_parameters_of_a_layer_type_are_those_of_the_layer() -> None:
    model = under("gemma3_text")
    local, whole = model.model.layers
    assert list(layers_of(model)) == ["model.layers.0", "model.layers.1"]
    assert rotary_module(model, local) is model.model.rotary_emb
    thetas = [rotary_for(model, each, {"rope_type": "default"}).rope_parameters.rope_theta for each in (local, whole)]
    assert thetas == [10_000.0, 1_000_000.0]
    assert [f"rope_theta={theta}" in said(model, each).text for theta, each in zip(thetas, (local, whole), strict=True)]


@pytest.mark.parametrize(("kind", "text"), [("llama4_text", "gives something else than cosines and sines")])
def test_a_model_whose_embeddings_are_laid_out_otherwise_is_refused(kind: str, text: str) -> None:
    with pytest.raises(
        UnsupportedFeature, match=rf"must be what headstock makes of the model's own parameters .*{text}"
    ):
        apply(under(kind), in_layers("layers.0", rope={"rope_type": "default"}))


def test_a_layer_with_a_forward_of_its_own_is_refused_and_one_that_was_given_one_since_is_not_undone() -> None:
    model, chosen = under("llama"), in_layers("layers.0", rope={"rope_type": "linear", "factor": 2.0})
    layer = model.model.layers[0]
    with apply(model, chosen), apply(model, chosen):  # its own is ours
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)
    layer.forward = layer.forward
    with pytest.raises(
        UnsupportedFeature, match="must have the forward of its class to be given other RoPE parameters"
    ):
        apply(model, chosen)
    del layer.forward
    handle = apply(model, chosen)
    layer.forward = type(layer).forward.__get__(layer)
    with pytest.raises(MisplacedScope, match="the forward of an overridden LlamaDecoderLayer must be as the override"):
        handle.undo()


def test_a_layer_without_a_rotary_module_above_it_is_refused() -> None:
    model = under("llama")
    with pytest.raises(
        UnsupportedFeature, match="must have a rotary module above it to be given other RoPE parameters"
    ):
        rotary_for(nn.Sequential(model.model.layers[0]), model.model.layers[0], {"rope_type": "default"})
    assert said(nn.Sequential(model.model.layers[0]), model.model.layers[0]).text == "none"


def test_interleaved_angles_are_another_layout() -> None:
    from transformers import CohereConfig, CohereModel

    config: Any = CohereConfig
    build: Any = CohereModel  # untyped, as is the configuration
    model = build(
        config(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=16,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    with pytest.raises(UnsupportedFeature, match="CohereRotaryEmbedding, which gives other angles"):
        apply(model, overrides(rope={"rope_type": "default"}))
