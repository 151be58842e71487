"""The table under transformers' name, beside transformers' own."""

import copy
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from transformers import modeling_utils as theirs
from transformers.integrations.sdpa_attention import sdpa_attention_forward as their_sdpa

from headstock.attention import ATTENTION_FUNCTIONS, attend, contract_of
from headstock.attention import AttentionInterface as StrictInterface
from headstock.attention.eager import eager
from headstock.attention.sdpa import sdpa
from headstock.compat import modeling_utils
from headstock.compat.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface, sdpa_attention_forward
from headstock.errors import InvalidComponent, UnknownName, UnsupportedFeature
from headstock.masks import causal
from tests.support.attention_functions import additive


def _default(*args: Any, **keywords: Any) -> Any: ...


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave both tables as they were: `register` replaces what is shared."""
    shared, mapping = dict(ATTENTION_FUNCTIONS), dict(theirs.AttentionInterface._global_mapping)
    yield
    for name in set(ATTENTION_FUNCTIONS) - set(shared):
        ATTENTION_FUNCTIONS.unregister(name)
    for name, function in shared.items():
        ATTENTION_FUNCTIONS.register(name, function, replace=True)
    modeling_utils._AS_TRANSFORMERS["sdpa"] = sdpa_attention_forward
    theirs.AttentionInterface._global_mapping.clear()
    theirs.AttentionInterface._global_mapping.update(mapping)
    modeling_utils._log_once.cache_clear()


class _Layer(nn.Module):
    def __init__(self, groups: int = 1, is_causal: bool | None = None) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        if is_causal is not None:
            self.is_causal = is_causal


BOTH = pytest.mark.parametrize("interface", [AttentionInterface, theirs.AttentionInterface], ids=["ours", "theirs"])


@BOTH
def test_what_is_registered_is_seen_by_every_instance(interface: Any) -> None:
    before = interface()
    interface.register("mine", additive)
    assert before["mine"] is interface()["mine"] is additive
    assert "mine" in before.valid_keys()
    assert before.get_interface("mine", _default) is additive


@BOTH
def test_keywords_are_named_as_theirs(interface: Any) -> None:
    interface.register(key="mine", value=additive)
    assert interface().get_interface(attn_implementation="mine", default=_default) is additive


@BOTH
def test_a_taken_name_is_replaced(interface: Any) -> None:
    for name in ("mine", "sdpa"):
        interface.register(name, _default)
        interface.register(name, additive)
        assert interface()[name] is additive


@BOTH
def test_a_local_entry_is_seen_by_one_instance(interface: Any) -> None:
    local = interface()
    local["sdpa"] = additive
    assert local.get_interface("sdpa", _default) is additive
    assert interface().get_interface("sdpa", _default) is not additive
    del local["sdpa"]
    assert local["sdpa"] is interface()["sdpa"]


@BOTH
def test_eager_is_the_models_own_unless_registered(interface: Any) -> None:
    table = interface()
    assert table.get_interface("eager", _default) is _default
    table["eager"] = additive
    assert table.get_interface("eager", _default) is additive
    interface.register("eager", additive)
    assert interface().get_interface("eager", _default) is additive


@BOTH
def test_none_is_the_models_own(interface: Any) -> None:
    assert interface().get_interface(None, _default) is _default


@BOTH
def test_the_prefix_of_paging_is_taken_off(interface: Any) -> None:
    assert interface().get_interface("paged|sdpa", _default) is interface()["sdpa"]


@BOTH
def test_unknown_names_are_key_errors(interface: Any) -> None:
    with pytest.raises(KeyError, match="spda"):
        interface().get_interface("spda", _default)


def test_our_text_lists_the_names() -> None:
    with pytest.raises(
        UnknownName, match=r"must be one of 'blocked', 'eager', .*, 'sdpa', 'varlen', got 'spda'; did you mean 'sdpa'\?"
    ):
        ALL_ATTENTION_FUNCTIONS.get_interface("spda", _default)
    # transformers answers with the model's own function here.
    with pytest.raises(UnknownName, match=r"got 'spda'; did you mean 'sdpa'\?"):
        ALL_ATTENTION_FUNCTIONS.get_interface("paged|spda", _default)


def test_warnings_come_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            AttentionInterface().get_interface(None, _default)
            AttentionInterface().get_interface("paged|sdpa", _default)
    assert [record.getMessage() for record in caplog.records] == [
        "an attention function was asked for by the name None: goes on with the model's own",
        "the prefix of 'paged|sdpa' is no longer needed: goes on without",
    ]


def test_the_shared_table_is_headstocks() -> None:
    StrictInterface.register("strict", additive)
    assert ALL_ATTENTION_FUNCTIONS["strict"] is additive
    AttentionInterface.register("mine", additive)
    assert StrictInterface()["mine"] is additive
    assert StrictInterface()["sdpa"] is sdpa
    assert ALL_ATTENTION_FUNCTIONS["eager"] is eager


def test_sdpa_has_its_own_meaning_until_it_is_replaced() -> None:
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward
    assert ALL_ATTENTION_FUNCTIONS.where("sdpa").layer == "parent"
    AttentionInterface.register("sdpa", additive)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is StrictInterface()["sdpa"] is additive


def test_what_is_no_function_is_refused_and_replaces_nothing() -> None:
    with pytest.raises(InvalidComponent, match="must be callable"):
        AttentionInterface.register("sdpa", 3)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward


def test_it_decorates_and_declares() -> None:
    def mine(module: Any, query: Any, key: Any, value: Any, attention_mask: Any) -> Any: ...

    assert AttentionInterface.register("mine", mask="dense")(mine) is mine
    assert ALL_ATTENTION_FUNCTIONS["mine"] is mine
    assert contract_of(mine).mask == "dense"


def test_copies_keep_local_entries_and_see_the_shared_ones() -> None:
    local = AttentionInterface()
    local["mine"] = additive
    for made in (copy.deepcopy(local), pickle.loads(pickle.dumps(local)), local.copy()):
        assert type(made) is AttentionInterface
        assert made["mine"] is additive
        assert made["sdpa"] is sdpa_attention_forward
        assert made.parent is local.parent


QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)


@pytest.mark.parametrize("queries", [1, 2, 5])
@pytest.mark.parametrize("keys", [5, 7])
@pytest.mark.parametrize("module_is_causal", [None, True, False])
@pytest.mark.parametrize("is_causal", [None, True, False])
def test_no_mask_means_what_it_means_there(
    queries: int, keys: int, module_is_causal: bool | None, is_causal: bool | None
) -> None:
    module = _Layer(2, module_is_causal)
    tensors = QUERY[:, :, :queries], KEY[:, :, :keys], VALUE[:, :, :keys]
    bias = torch.randn(1, 4, queries, keys)
    options: list[dict[str, Any]] = [{}, {"scaling": 0.3}, {"position_bias": bias}, {"sliding_window": 4}]
    for keywords in options:
        expected, _ = their_sdpa(module, *tensors, None, is_causal=is_causal, **keywords)
        found, weights = sdpa_attention_forward(module, *tensors, None, is_causal=is_causal, **keywords)
        torch.testing.assert_close(found, expected)
        assert weights is None


@pytest.mark.parametrize("keys", [5, 7])
def test_masks_mean_what_they_mean_there(keys: int) -> None:
    tensors = QUERY, KEY[:, :, :keys], VALUE[:, :, :keys]
    for mask in (torch.rand(2, 1, 5, keys) < 0.7, torch.randn(2, 1, 5, keys), torch.randn(1, 4, 5, keys)):
        for bias in (None, torch.randn(1, 4, 5, keys)):
            expected, _ = their_sdpa(_Layer(2), *tensors, mask, position_bias=bias, is_causal=True)
            found, _ = sdpa_attention_forward(_Layer(2), *tensors, mask, position_bias=bias, is_causal=True)
            torch.testing.assert_close(found, expected)


def test_what_theirs_drops_is_refused() -> None:
    tensors = QUERY, KEY, VALUE
    their_sdpa(_Layer(2), *tensors, None, s_aux=torch.randn(4))
    with pytest.raises(UnsupportedFeature, match="which does not honour sinks"):
        sdpa_attention_forward(_Layer(2), *tensors, None, s_aux=torch.randn(4))
    with pytest.raises(UnsupportedFeature, match="must know each keyword that may change the result, got 'indices'"):
        sdpa_attention_forward(_Layer(2), *tensors, None, indices=torch.randn(4))
    with pytest.raises(ValueError, match="softcap"):
        their_sdpa(_Layer(2), *tensors, None, softcap=1.0)
    with pytest.raises(ValueError, match="which does not honour softcap"):
        sdpa_attention_forward(_Layer(2), *tensors, None, softcap=1.0)


def test_weights_that_are_asked_for_are_warned_of_as_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            _, weights = sdpa_attention_forward(_Layer(2), QUERY, KEY, VALUE, None, output_attentions=True)
            assert weights is None
    assert [record.getMessage() for record in caplog.records] == [
        "attention function 'sdpa' returns no weights; 'eager' does"
    ]


def test_inside_of_headstock_no_mask_means_full_attention() -> None:
    key, value = KEY.repeat_interleave(2, 1), VALUE.repeat_interleave(2, 1)
    interface = AttentionInterface()
    for mask in (None, causal()):
        found = attend(QUERY, key, value, mask=mask, implementation="sdpa", interface=interface, checked=True)
        torch.testing.assert_close(found, attend(QUERY, key, value, mask=mask))


def test_a_layer_written_for_transformers() -> None:
    class Attention(nn.Module):
        is_causal = True
        num_key_value_groups = 2

        def forward(self, name: str, query: Any, key: Any, value: Any) -> Any:
            function = ALL_ATTENTION_FUNCTIONS.get_interface(name, additive)
            return function(self, query, key, value, None, scaling=0.5, dropout=0.0, position_ids=None, use_cache=True)[
                0
            ]

    layer = Attention()
    expected, _ = their_sdpa(layer, QUERY, KEY, VALUE, None, scaling=0.5)
    torch.testing.assert_close(layer("sdpa", QUERY, KEY, VALUE), expected)
    torch.testing.assert_close(layer("paged|sdpa", QUERY, KEY, VALUE), expected)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled("sdpa", QUERY, KEY, VALUE), expected)
