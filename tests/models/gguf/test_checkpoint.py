"""A file's weights are the model's: equal to the package gguf's numbers under transformers' names."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.models.gguf.checkpoint import read_gguf
from tests.support.gguf import rounded, smollm2_file, tiny_transformer, write_gguf

ARCHITECTURES = ["llama", "qwen2", "qwen3"]


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_tensors_are_the_models(tmp_path: Path, architecture: str, kind: str) -> None:
    model = tiny_transformer(architecture)
    found = read_gguf(write_gguf(tmp_path / "x.gguf", model, architecture=architecture, kind=kind))
    assert equal(found.tensors, rounded(model, kind))
    assert found.config["model_type"] == architecture


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tied_head_is_left_out(tmp_path: Path, architecture: str) -> None:
    model = tiny_transformer(architecture, tie_word_embeddings=True)
    found = read_gguf(write_gguf(tmp_path / "x.gguf", model, architecture=architecture))
    assert found.config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in found.tensors
    assert equal({**found.tensors, "lm_head.weight": found.tensors["model.embed_tokens.weight"]}, model.state_dict())


@pytest.mark.parametrize(
    ("architecture", "biases"),
    [("llama", {"attention_bias": True, "mlp_bias": True}), ("qwen3", {"attention_bias": True})],
)
def test_optional_biases_are_read(tmp_path: Path, architecture: str, biases: dict[str, bool]) -> None:
    model = tiny_transformer(architecture, **biases)
    found = read_gguf(write_gguf(tmp_path / "x.gguf", model, architecture=architecture))
    assert found.config.items() >= biases.items()
    assert equal(found.tensors, model.state_dict())


def test_stored_rows_are_kept_on_request(tmp_path: Path) -> None:
    model = tiny_transformer("llama", attention_bias=True)
    file = write_gguf(tmp_path / "x.gguf", model, architecture="llama")
    kept, turned = read_gguf(file, rotary_layout="interleaved"), read_gguf(file)
    assert kept.config == {**turned.config, "rotary_layout": "interleaved"}
    stored = {each.name: torch.from_numpy(each.data.copy()) for each in gguf.GGUFReader(file).tensors}
    for name in ("weight", "bias"):
        query = kept.tensors[f"model.layers.1.self_attn.q_proj.{name}"]
        assert torch.equal(query, stored[f"blk.1.attn_q.{name}"])
        assert not torch.equal(query, turned.tensors[f"model.layers.1.self_attn.q_proj.{name}"])


def test_files_that_are_stored_in_halves_have_one_layout(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "x.gguf", tiny_transformer("qwen3"), architecture="qwen3")
    kept, turned = read_gguf(file, rotary_layout="interleaved"), read_gguf(file)
    assert kept.config == turned.config
    assert equal(kept.tensors, turned.tensors)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="rotary_layout must be 'half_split' or 'interleaved', got 'neox'"):
        read_gguf(tmp_path / "x.gguf", rotary_layout="neox")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_weights_take_the_dtype_that_is_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_transformer("llama")
    found = read_gguf(write_gguf(tmp_path / "x.gguf", model, architecture="llama"), dtype=dtype)
    assert equal(found.tensors, {name: each.to(dtype) for name, each in model.state_dict().items()})
    assert found.config["dtype"] == str(dtype).removeprefix("torch.")


def test_a_window_makes_it_mistral(tmp_path: Path) -> None:
    file = write_gguf(
        tmp_path / "x.gguf", tiny_transformer("llama"), architecture="llama", fields=lambda w: w.add_sliding_window(16)
    )
    config = read_gguf(file).config
    assert (config["model_type"], config["sliding_window"]) == ("mistral", 16)
    assert config["architectures"] == ["MistralForCausalLM"]


def test_frequency_divisors_become_a_scaling(tmp_path: Path) -> None:
    divisors = torch.linspace(1, 8, 16)
    file = write_gguf(
        tmp_path / "x.gguf",
        tiny_transformer("llama"),
        architecture="llama",
        fields=lambda writer: writer.add_tensor("rope_freqs.weight", divisors.numpy()),
    )
    assert read_gguf(file).config["rope_parameters"]["short_factor"] == divisors.tolist()


def changed(**fields: tuple[str, Any]) -> Any:
    def add(writer: gguf.GGUFWriter) -> None:
        for name, (how, value) in fields.items():
            getattr(writer, f"add_{how}")(f"llama.{name.replace('__', '.')}", value)

    return add


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        (changed(expert_count=("uint32", 8)), "expert_count must be 0, got 8; it is not computed here"),
        (changed(attention__causal=("bool", False)), r"attention\.causal must be True, got False"),
        (changed(logit_scale=("float32", 0.5)), r"known fields only, got llama\.logit_scale = 0\.5; what it changes"),
        (changed(rope__dimension_count=("uint32", 16)), r"rope\.dimension_count must be the head's width 32, got 16"),
        (lambda w: w.add_tensor("blk.0.extra.weight", torch.ones(3).numpy()), r"got \['blk\.0\.extra\.weight'\]; what"),
    ],
)  # fmt: skip
def test_what_is_not_computed_here_is_refused_by_name(tmp_path: Path, fields: Any, rule: str) -> None:
    file = write_gguf(tmp_path / "x.gguf", tiny_transformer("llama"), architecture="llama", fields=fields)
    with pytest.raises(UnsupportedFeature, match=rule):
        read_gguf(file)


def test_a_part_of_a_model_is_refused(tmp_path: Path) -> None:
    file = write_gguf(
        tmp_path / "x.gguf",
        tiny_transformer("llama"),
        architecture="llama",
        fields=lambda writer: writer.add_uint16("split.count", 3),
    )
    with pytest.raises(UnsupportedFeature, match="must hold a whole model, got one of 3 parts; join them"):
        read_gguf(file)


def test_windows_of_other_architectures_are_refused(tmp_path: Path) -> None:
    file = write_gguf(
        tmp_path / "x.gguf", tiny_transformer("qwen2"), architecture="qwen2", fields=lambda w: w.add_sliding_window(16)
    )
    with pytest.raises(UnsupportedFeature, match="sliding windows must be absent in qwen2 files, got 16"):
        read_gguf(file)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3", "mamba"])
def test_other_architectures_are_refused_by_name(tmp_path: Path, architecture: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", architecture)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnsupportedFeature, match=f"must be one of 'llama', 'qwen2', 'qwen3', got '{architecture}'"):
        read_gguf(tmp_path / "x.gguf")


def test_fields_that_do_not_fit_the_tensors_are_refused(tmp_path: Path) -> None:
    model = tiny_transformer("llama")

    def refused(error: type[Exception], rule: str, **wrong: int) -> None:
        before = {name: getattr(model.config, name) for name in wrong}
        model.config.update(wrong)
        try:
            file = write_gguf(tmp_path / "x.gguf", model, architecture="llama")
        finally:
            model.config.update(before)
        with pytest.raises(error, match=rule):
            read_gguf(file)

    refused(InvalidConfig, r"llama\.block_count must be the number of the file's blocks, 2, got 3", num_hidden_layers=3)
    refused(InvalidShape, r"token_embd\.weight must have the shape \[96, 128\], got \[96, 64\]", hidden_size=128)
    refused(InvalidShape, r"ffn_gate\.weight must have the shape \[64, 64\], got \[96, 64\]", intermediate_size=64)


def test_a_missing_tensor_and_a_wrong_vocabulary_are_refused(tmp_path: Path) -> None:
    model = tiny_transformer("llama")
    state = model.state_dict()
    model.state_dict = lambda: {name: each for name, each in state.items() if "layers.1.mlp.up" not in name}
    with pytest.raises(InvalidConfig, match=r"must hold all .*, got none of \['blk\.1\.ffn_up\.weight'\]"):
        read_gguf(write_gguf(tmp_path / "x.gguf", model, architecture="llama"))
    model.state_dict = lambda: state
    with pytest.raises(InvalidConfig, match="as many embeddings as tokens, got 96 and 97"):
        read_gguf(write_gguf(tmp_path / "x.gguf", model, architecture="llama", fields=lambda w: w.add_vocab_size(97)))


@pytest.mark.slow  # the package's own reader takes its time
def test_the_real_weights_are_those_that_the_package_gguf_decodes() -> None:
    found = read_gguf(smollm2_file())
    assert sum(each.numel() for each in found.tensors.values()) == 134_515_008
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    named = {names.get_name(name, try_suffixes=(".weight",)): each for name, each in found.tensors.items()}
    file = gguf.GGUFReader(smollm2_file())
    assert {each.name for each in file.tensors} == named.keys()
    for each in file.tensors:
        expected = torch.from_numpy(gguf.quants.dequantize(each.data, each.tensor_type).copy())
        if "attn_q" in each.name or "attn_k" in each.name:
            heads = expected.shape[0] // 64
            expected = expected.reshape(heads, 32, 2, 576).swapaxes(1, 2).reshape(expected.shape)
        assert torch.equal(named[each.name], expected)
