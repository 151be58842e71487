"""The table of mask functions, shared, local and in a scope."""

import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import masking_utils as their_module

from headstock.compat import masking_utils as ours
from headstock.compat.masking_utils.table import MASK_FUNCTIONS
from headstock.errors import DuplicateName, FrozenTable, InvalidComponent, UnknownName
from headstock.registry import Registry
from tests.support.tiny_transformers import masks_from, tiny
from tests.support.transformers_masks import config_of

theirs: Any = their_module
EMBEDS = torch.zeros(1, 3, 8)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave both shared tables as they were."""
    shared, mapping = dict(MASK_FUNCTIONS), dict(theirs.AttentionMaskInterface._global_mapping)
    yield
    for name in set(MASK_FUNCTIONS) - set(shared):
        MASK_FUNCTIONS.unregister(name)
    for name, function in shared.items():
        MASK_FUNCTIONS.register(name, function, replace=True)
    theirs.AttentionMaskInterface._global_mapping.clear()
    theirs.AttentionMaskInterface._global_mapping.update(mapping)


def mine(**said: Any) -> Any:
    """A mask function of transformers' form."""
    return ("mine", said["q_length"], said["kv_length"])


def of_named_arguments(
    batch_size: int, q_length: int, kv_length: int, q_offset: int = 0, kv_offset: int = 0, **kwargs: Any
) -> Any:
    return ("named", q_length)


@pytest.mark.parametrize("masks", [ours, theirs], ids=["ours", "theirs"])
class TestLikeTheirs:
    def test_what_is_registered_is_used(self, masks: Any) -> None:
        masks.AttentionMaskInterface.register("mine", mine)
        assert masks.AttentionMaskInterface()["mine"] is masks.ALL_MASK_ATTENTION_FUNCTIONS["mine"] is mine
        assert "mine" in masks.ALL_MASK_ATTENTION_FUNCTIONS.valid_keys()
        assert masks.create_causal_mask(config_of("mine"), EMBEDS, None, None) == ("mine", 3, 3)

    def test_a_taken_name_is_replaced_by_keywords_of_the_same_name(self, masks: Any) -> None:
        masks.ALL_MASK_ATTENTION_FUNCTIONS.register(key="sdpa", value=of_named_arguments)
        assert masks.create_causal_mask(config_of("sdpa"), EMBEDS, None, None) == ("named", 3)

    def test_names_are_found_in_the_global_mapping(self, masks: Any) -> None:
        assert "sdpa" in masks.ALL_MASK_ATTENTION_FUNCTIONS._global_mapping
        assert "spda" not in masks.ALL_MASK_ATTENTION_FUNCTIONS._global_mapping

    def test_functions_of_either_module_serve_the_other(self, masks: Any) -> None:
        other = theirs if masks is ours else ours
        masks.AttentionMaskInterface.register("other", other.sdpa_mask)
        keep = torch.tensor([[0, 1, 1]])
        found = masks.create_sliding_window_causal_mask(config_of("other", sliding_window=2), EMBEDS, keep, None)
        assert found.tolist() == [[[[False] * 3, [False, True, False], [False, True, True]]]]


def test_a_local_interface_is_used_where_theirs_never_is() -> None:
    for masks in (ours, theirs):
        local: Any = masks.AttentionMaskInterface()
        local["sdpa"] = local["of one model"] = mine
        if masks is theirs:
            assert theirs.create_causal_mask(config_of("of one model"), EMBEDS, None, None) is None
            continue
        for name in ("sdpa", "of one model"):
            config = config_of(name, sliding_window=2, attention_chunk_size=2)
            for function in ("causal", "sliding_window_causal", "chunked_causal"):
                create = getattr(ours, f"create_{function}_mask")
                assert create(config, EMBEDS, None, None, mask_interface=local) == ("mine", 3, 3)
            for function in ("bidirectional", "bidirectional_sliding_window"):
                create = getattr(ours, f"create_{function}_mask")
                assert create(config, EMBEDS, None, mask_interface=local) == ("mine", 3, 3)
            assert ours.create_masks_for_generate(config_of(name), EMBEDS, None, None, mask_interface=local) == (
                "mine",
                3,
                3,
            )
        assert ours.create_causal_mask(config_of("sdpa"), EMBEDS, None, None) is None
        assert "of one model" not in ours.ALL_MASK_ATTENTION_FUNCTIONS


def test_a_scope_reaches_models_that_know_nothing_of_it() -> None:
    model, seen = tiny("llama", "sdpa"), []

    def noted(**said: Any) -> Any:
        seen.append(said["q_length"])
        return ours.sdpa_mask(**said)

    ids = torch.tensor([[1, 2, 3, 4]])
    with masks_from(ours, model), torch.no_grad():
        with ours.ALL_MASK_ATTENTION_FUNCTIONS.override(sdpa=noted):
            inside = model(ids).logits
        outside = model(ids).logits
    assert seen == [4]
    assert torch.equal(inside, outside)


def test_a_scope_on_a_local_interface_holds_for_it_alone() -> None:
    local = ours.AttentionMaskInterface()
    with local.override(sdpa=mine):
        assert ours.create_causal_mask(config_of("sdpa"), EMBEDS, None, None, mask_interface=local) == ("mine", 3, 3)
        assert ours.create_causal_mask(config_of("sdpa"), EMBEDS, None, None) is None
    assert ours.create_causal_mask(config_of("sdpa"), EMBEDS, None, None, mask_interface=local) is None


def test_it_is_a_decorator_too_and_may_refuse_taken_names() -> None:
    assert ours.AttentionMaskInterface.register("mine")(mine) is mine
    with pytest.raises(DuplicateName, match=r"a mask function must have a name of its own, got 'mine'"):
        ours.AttentionMaskInterface.register("mine", mine, replace=False)


def test_what_create_could_not_call_is_refused_where_theirs_enter_it() -> None:
    def narrow(batch_size: int, q_length: int) -> None: ...

    for wrong in (narrow, lambda mask, geometry, *, dtype, device: mask):
        theirs.AttentionMaskInterface.register("narrow", wrong)
        with pytest.raises(InvalidComponent, match=r"mask function 'narrow' must take batch_size, .* and \*\*kwargs"):
            ours.AttentionMaskInterface.register("narrow", wrong)
    with pytest.raises(InvalidComponent, match=r"mask function 'text' must be callable, got 'sdpa'"):
        ours.AttentionMaskInterface()["text"] = "sdpa"  # type: ignore[assignment]


def test_a_function_whose_signature_cannot_be_read_is_entered() -> None:
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(dict)
    ours.AttentionMaskInterface()["dict"] = dict


def test_a_frozen_table_is_not_written() -> None:
    table: Registry[Any] = Registry("mask function")
    table.freeze()
    interface = type("Frozen", (ours.AttentionMaskInterface,), {}, registry=table)
    with pytest.raises(FrozenTable, match=r"the shared table of mask functions must not change after it was frozen"):
        interface.register("mine", mine)  # type: ignore[attr-defined]


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(UnknownName, match=r"'spda'.*sdpa"):
        ours.AttentionMaskInterface()["spda"]


def test_it_pickles_as_the_table_that_it_is() -> None:
    local = ours.AttentionMaskInterface()
    local["sdpa"] = of_named_arguments
    again = pickle.loads(pickle.dumps(local))
    assert again["sdpa"] is of_named_arguments
    assert again["eager"] is ours.eager_mask
    assert again.parent is MASK_FUNCTIONS
