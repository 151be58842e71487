"""`install` and `uninstall`: headstock's names in transformers' tables, and out of them again."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BloomConfig,
    BloomForCausalLM,
    BloomModel,
    FalconConfig,
    FalconForCausalLM,
    PreTrainedModel,
)

from headstock.errors import ConfigWarning, DuplicateName, MisplacedScope, MissingDependency
from headstock.integrations.transformers import install, installed, uninstall
from headstock.integrations.transformers.naming import IMPLEMENTATIONS
from tests.support.tiny_transformers import tiny
from tests.support.transformers_attention import batch, snapshot, with_headstock

TRIGGERS = ("flash", "sdpa", "flex_attention", "paged|")


@pytest.fixture
def clean() -> Iterator[tuple[Any, Any]]:
    """Tables without headstock, which must be the same afterwards."""
    if installed():
        uninstall()
    before, method = snapshot(), PreTrainedModel.get_correct_attn_implementation
    yield before
    if installed():
        uninstall()
    assert snapshot() == before
    assert PreTrainedModel.get_correct_attn_implementation is method


def test_install_enters_attention_and_mask_functions_under_the_same_names(clean: Any) -> None:
    names = install()
    attention, masks = snapshot()
    assert set(attention) - set(clean[0]) == set(masks) - set(clean[1]) == set(names) == set(installed())
    assert {"headstock", "headstock:blocked", "headstock:eager", "headstock:torch"} <= set(names)


def test_no_name_is_one_that_transformers_acts_on() -> None:
    assert [name for name in IMPLEMENTATIONS if any(part in name for part in TRIGGERS)] == []


def test_install_twice_changes_nothing(clean: Any) -> None:
    names = install()
    before = snapshot()
    assert install() == names
    assert snapshot() == before


def test_uninstall_restores_both_tables_exactly(clean: Any) -> None:
    install()
    uninstall()
    assert snapshot() == clean
    assert installed() == ()


def test_uninstall_without_install_is_refused(clean: Any) -> None:
    with pytest.raises(MisplacedScope, match=re.escape("uninstall() must follow install(), got")):
        uninstall()


def test_a_name_that_is_taken_is_refused_and_nothing_is_entered(clean: Any) -> None:
    AttentionMaskInterface.register("headstock:eager", len)
    taken = snapshot()
    try:
        with pytest.raises(DuplicateName, match=r"'headstock:eager' must be free in .* AttentionMaskInterface .*len"):
            install()
        assert snapshot() == taken
    finally:
        del AttentionMaskInterface._global_mapping["headstock:eager"]


def test_what_others_registered_since_is_theirs(clean: Any) -> None:
    install()
    AttentionInterface.register("headstock:eager", len)
    uninstall()
    assert AttentionInterface._global_mapping.pop("headstock:eager") is len


def test_a_live_model_refuses_to_run_after_uninstall_and_runs_again_after_install(clean: Any) -> None:
    install()
    model = tiny("llama", "headstock")
    ids, keep = batch()
    with torch.no_grad():
        before = model(ids, attention_mask=keep).logits
        uninstall()
        with pytest.raises(KeyError, match="`headstock` is not a valid attention implementation"):
            model(ids, attention_mask=keep)
        install()
        assert torch.equal(model(ids, attention_mask=keep).logits, before)


def test_a_model_with_attention_of_its_own_is_warned_of_by_name(clean: Any) -> None:
    install()
    config = BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=32)
    for _ in range(2):
        with pytest.warns(ConfigWarning, match="BloomForCausalLM must look .* up by name .*'headstock'") as caught:
            BloomForCausalLM._from_config(config, attn_implementation="headstock")
        # One warning, though the model that is inside of it asks too; and it is told of whoever builds it.
        assert [each.filename for each in caught] == [__file__]
    with pytest.warns(ConfigWarning, match="BloomModel must look its attention function up by name"):
        BloomModel._from_config(config, attn_implementation="headstock")


def test_a_model_that_picks_its_layers_by_the_name_is_built_with_its_own(clean: Any) -> None:
    config = FalconConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    own = FalconForCausalLM(config).config._attn_implementation
    install()
    with pytest.warns(ConfigWarning, match="FalconForCausalLM must look its attention function up by name"):
        model = FalconForCausalLM._from_config(config, attn_implementation="headstock")
    assert model.config._attn_implementation == own


def test_other_names_and_other_models_are_not_warned_of(clean: Any) -> None:
    install()  # warnings are errors here
    tiny("llama", "headstock")
    BloomForCausalLM._from_config(BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=32))


def test_without_transformers_the_install_line_is_told(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingDependency, match=re.escape('got none; pip install "headstock[transformers]"')):
        install()


@pytest.mark.parametrize("version", ["4.57.1", "5.19.3"])
def test_an_older_transformers_is_refused(clean: Any, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr("transformers.__version__", version)
    with pytest.raises(MissingDependency, match=f"transformers must be 5.20 or later .*, got {version}"):
        install()


def test_the_first_version_that_is_served_is_taken(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", "5.20.0")
    assert "headstock" in install()


def test_tables_of_another_form_are_refused(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttentionInterface, "_global_mapping", None)
    with pytest.raises(MissingDependency, match=r"transformers.AttentionInterface must hold its entries in a dict"):
        install()


def test_the_context_of_the_tests_leaves_things_as_they_were(clean: Any) -> None:
    with with_headstock() as names:
        assert installed() == names
    assert installed() == ()
