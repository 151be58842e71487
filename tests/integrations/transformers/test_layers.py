import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import MisplacedScope, MissingDependency, UnknownName
from headstock.integrations.transformers import use_layers
from headstock.layers import Conv1D, RMSNorm
from headstock.overrides import apply, inspect, reset
from headstock.rope.embedding import RotaryEmbedding
from tests.support.overrides import everything, in_layers
from tests.support.transformers_overrides import TOKENS, said, under


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2Model

    config: Any = GPT2Config(
        n_embd=16, n_head=2, n_layer=2, vocab_size=64, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    build: Any = GPT2Model  # untyped
    return build(config).eval()


def hidden(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(TOKENS)[0]
    return found


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_norms_and_the_rotary_module_are_replaced_and_compute_the_same(kind: str) -> None:
    model = under(kind, "eager")
    before, plain, names = everything(model), said(model), list(model.state_dict())
    originals = dict(model.named_modules())
    with use_layers(model) as handle:
        assert torch.equal(said(model), plain)
        assert list(model.state_dict()) == names
        assert len(handle.report.swapped) == 6
        assert handle.report.kept == {}
        norm = model.model.layers[0].input_layernorm
        assert type(norm) is RMSNorm
        assert norm.weight is originals["model.layers.0.input_layernorm"].weight
        assert isinstance(model.model.rotary_emb, RotaryEmbedding)
        assert "model.norm: RMSNorm in the place of" in str(inspect(model))
    assert all(module is originals[name] for name, module in model.named_modules())
    assert torch.equal(said(model), plain)
    assert everything(model) == before


def test_conv1d_is_replaced_in_gpt2() -> None:
    model = gpt2()
    plain = hidden(model)
    with use_layers(model, "conv1d") as handle:
        assert len(handle.report.swapped) == 8
        assert type(model.h[0].attn.c_attn) is Conv1D
        assert torch.equal(hidden(model), plain)
    assert type(model.h[0].attn.c_attn) is not Conv1D


def test_a_norm_of_another_formula_stays_and_the_report_says_why() -> None:
    model = under("gemma2", "eager")
    with use_layers(model, "norms") as handle:
        assert handle.report.swapped == ()
        assert set(handle.report.kept.values()) == {"multiplies by 1 + weight"}
    lines = str(handle.report).splitlines()
    assert lines[0].split() == ["module", "was", "now"]
    assert lines[-1].endswith("Gemma2RMSNorm  stays: multiplies by 1 + weight")


def test_gradients_reach_the_same_parameters() -> None:
    model = under("llama", "eager").train()

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model(TOKENS).logits.square().mean().backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    plain = gradients()
    with use_layers(model):
        ours = gradients()
    assert len(plain) == len(ours)
    for one, other in zip(plain, ours, strict=True):
        # Norms are differentiated by other formulas of the same function: some hundred roundings.
        torch.testing.assert_close(
            one, other, rtol=0, atol=512 * torch.finfo(torch.float32).eps * one.abs().max().item()
        )


class OwnRMSNorm(nn.Module):
    """A stranger's norm, of one of several formulas."""

    def __init__(self, formula: str, size: int = 8, eps: float = 1e-5) -> None:
        super().__init__()
        self.formula = formula
        self.variance_epsilon = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        eps, square = self.variance_epsilon, x.square().mean(-1, keepdim=True)
        if self.formula == "fails":
            raise RuntimeError("no kernel")
        factor = {
            "same": (square + eps).rsqrt(),
            "epsilon outside of the root": 1 / (square.sqrt() + eps),
            "no epsilon": square.rsqrt(),
            "variance": (x.var(-1, keepdim=True) + eps).rsqrt(),
            "squared weight": (square + eps).rsqrt() * self.weight,
            "shape": (square + eps).rsqrt(),
        }[self.formula]
        return (self.weight * x * factor)[..., :1] if self.formula == "shape" else self.weight * x * factor


class GatedRMSNorm(OwnRMSNorm):
    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        return super().forward(x)


class BiasedRMSNorm(OwnRMSNorm):
    def __init__(self) -> None:
        super().__init__("same")
        self.bias = nn.Parameter(torch.zeros(8))


@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        (OwnRMSNorm("same"), None),
        (OwnRMSNorm("epsilon outside of the root"), "computes another formula"),
        (OwnRMSNorm("no epsilon"), "computes another formula"),
        (OwnRMSNorm("variance"), "computes another formula"),
        (OwnRMSNorm("squared weight"), "computes another formula"),
        (OwnRMSNorm("shape"), "computes another formula"),
        (OwnRMSNorm("fails"), "does not run on [rows, 8] (RuntimeError)"),
        (GatedRMSNorm("same"), "takes (x, gate)"),
        (BiasedRMSNorm(), "has something else than one weight and one epsilon"),
        (OwnRMSNorm("same").to("meta"), "is on the meta device, where nothing can be tried"),
    ],
    ids=lambda each: getattr(each, "formula", None),
)
def test_a_norm_is_replaced_only_where_it_gives_the_same_numbers(norm: nn.Module, reason: str | None) -> None:
    model = nn.Sequential(norm)
    with use_layers(model, "norms") as handle:
        assert handle.report.kept == ({} if reason is None else {"0": reason})
        assert (model[0] is norm) == (reason is not None)
    assert model[0] is norm


def test_torchs_norms_and_ours_are_left_out_of_the_report() -> None:
    model = nn.Sequential(nn.LayerNorm(8), nn.RMSNorm(8), RMSNorm(8), nn.Linear(8, 8))
    assert use_layers(model).report.layers == ()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}, None),
        ({"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0, "original_max_position_embeddings": 32}, None),
        ({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0}, "or lets rows of other lengths change them"),
    ],
)
def test_a_rotary_module_is_replaced_where_rows_do_not_change_each_other(parameters: Any, reason: str | None) -> None:
    from transformers import LlamaConfig, LlamaModel

    config: Any = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=64,
        max_position_embeddings=128,
        rope_parameters=parameters,
    )
    build: Any = LlamaModel  # untyped
    model = build(config).eval()
    plain = hidden(model)
    with use_layers(model, "rotary") as handle:
        if reason is None:
            assert handle.report.swapped == ("rotary_emb",)
        else:
            assert handle.report.kept["rotary_emb"].endswith(reason)
        assert torch.equal(hidden(model), plain)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gemma3_text", "takes (x, position_ids, layer_type)"),
        ("llama4_text", "gives something else than cosines"),
    ],
)
def test_a_rotary_module_of_another_form_stays(kind: str, reason: str) -> None:
    kept = use_layers(under(kind, "eager"), "rotary").report.kept
    assert kept["model.rotary_emb"].startswith(reason)


class StrangeRotaryEmbedding(nn.Module):
    def forward(self, x: Tensor, position_ids: Tensor) -> Tensor:
        return x


def test_a_rotary_module_without_a_configuration_stays() -> None:
    assert use_layers(nn.Sequential(StrangeRotaryEmbedding()), "rotary").report.kept == {"0": "has no configuration"}


def test_modules_with_hooks_or_a_forward_of_their_own_stay() -> None:
    model = under("llama", "eager")
    layer = model.model.layers[0]
    hook = layer.input_layernorm.register_forward_hook(lambda *_: None)
    layer.post_attention_layernorm.forward = layer.post_attention_layernorm.forward
    kept = use_layers(model, "norms").report.kept
    assert kept == {
        "model.layers.0.input_layernorm": "has forward_hooks of its own",
        "model.layers.0.post_attention_layernorm": "has forward of its own",
    }
    hook.remove()


def test_a_subclass_of_conv1d_stays() -> None:
    from transformers.pytorch_utils import Conv1D as Theirs

    made: Any = type("Quantised", (Theirs,), {})
    kept = use_layers(nn.Sequential(made(4, 3))).report.kept
    assert kept == {"0": "is a Quantised, of which more may be expected"}


def test_what_happens_to_a_replaced_layer_happened_to_the_original() -> None:
    model = under("llama", "eager")
    norm, rotary = model.model.norm, model.model.rotary_emb
    with use_layers(model):
        model.train()
        model.to(torch.float64)
        model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, assign=True)
        weight = model.model.norm.weight
    assert model.model.norm is norm
    assert model.model.rotary_emb is rotary
    assert norm.weight is weight
    assert (norm.training, rotary.training, norm.weight.dtype) == (True, True, torch.float64)


def test_the_epsilon_and_the_dtype_are_those_of_the_layer() -> None:
    model = under("llama", "eager").to(torch.bfloat16)
    plain = said(model)
    with use_layers(model, "norms"):
        norm = model.model.norm
        assert (norm.eps, norm.weight.dtype) == (model.config.rms_norm_eps, torch.bfloat16)
        got = said(model)
    # Rounded once here and twice there: a unit of bfloat16 in each of five norms, and what becomes of it.
    assert (got - plain).abs().max() <= 32 * torch.finfo(torch.bfloat16).eps * plain.abs().max()


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(UnknownName, match="a kind of layers must be one of 'conv1d', 'norms', 'rotary', got 'norm'"):
        use_layers(nn.Sequential(), "norm")


def test_without_transformers_there_is_nothing_to_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match="the package transformers must be installed"):
        use_layers(nn.Sequential())


def test_overrides_and_layers_lie_over_each_other() -> None:
    model = under("llama", "eager")
    plain = said(model)
    handle = use_layers(model)
    applied = apply(model, in_layers("layers.0", rope={"rope_type": "linear", "factor": 2.0}))
    assert not torch.equal(said(model), plain)
    made = copy.deepcopy(model)
    handle.undo()
    applied.undo()
    assert torch.equal(said(model), plain)
    reset(made)
    assert torch.equal(said(made), plain)
    assert not isinstance(made.model.rotary_emb, RotaryEmbedding)


def test_a_layer_that_was_replaced_since_is_not_taken_out() -> None:
    model = under("llama", "eager")
    handle = use_layers(model, "norms")
    model.model.norm = nn.Identity()
    with pytest.raises(MisplacedScope, match="it is a Identity"):
        handle.undo()
