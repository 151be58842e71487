"""Models that are built from their configuration alone."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers import installed
from headstock.integrations.transformers.describing import described
from headstock.overrides import inspect
from tests.support.transformers_attention import with_headstock

SIZES: dict[str, Any] = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_the_class_that_the_configuration_names_is_built_without_memory(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SIZES, intermediate_size=8, architectures=["BertForMaskedLM"])
    config.save_pretrained(tmp_path)
    with with_headstock():
        model = described(tmp_path, "blocked")
    assert type(model) is transformers.BertForMaskedLM
    assert all(each.is_meta for each in model.parameters())
    facts = inspect(model).layers[0]
    assert (facts.attention.text, facts.attention.origin) == ("blocked", "config: headstock:blocked")


def test_a_model_with_attention_of_its_own_is_told_so(tmp_path: Path) -> None:
    transformers.BloomConfig(vocab_size=16, hidden_size=8, n_layer=1, n_head=2).save_pretrained(tmp_path)
    with with_headstock():
        model = described(tmp_path)  # warnings are errors here: the report is where it is told, once
    assert inspect(model).notes == (
        "BloomForCausalLM accepts any attn_implementation and never calls it: it runs attention of its own",
    )


def test_what_transformers_cannot_build_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing_such"}')
    with (
        with_headstock(),
        pytest.raises(UnsupportedFeature, match=r"must describe a model that \w+ .* can build"),
    ):
        described(tmp_path)


def test_a_function_that_transformers_does_not_know_is_refused(tmp_path: Path) -> None:
    with (
        with_headstock(),
        pytest.raises(UnsupportedFeature, match=r"one of 'auto', .* got 'mine'; leave it out"),
    ):
        described(tmp_path, "mine")


def test_what_fails_leaves_nothing_installed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing_such"}')
    for attention in ("auto", "mine"):
        with pytest.raises(UnsupportedFeature):
            described(tmp_path, attention)
        assert installed() == ()
