"""Implementations that transformers' table does not name."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface as TheirAttention
from transformers import masking_utils as their_module

from headstock.attention import ATTENTION_FUNCTIONS
from headstock.attention import AttentionInterface as StrictAttention
from headstock.compat import masking_utils as ours
from headstock.errors import InvalidConfig, UnknownName
from headstock.masks import ALL_MASK_ATTENTION_FUNCTIONS as ALL_REPRESENTATIONS
from headstock.masks import AttentionMaskInterface as Representations
from headstock.masks import Geometry, causal, prepare
from headstock.masks.table import MASK_REPRESENTATIONS
from tests.support.attention_functions import additive
from tests.support.tiny_transformers import masks_from, tiny
from tests.support.transformers_masks import config_of, equal, meaning

theirs: Any = their_module
EMBEDS = torch.zeros(2, 3, 8)
KEEP = torch.tensor([[0, 1, 1], [1, 1, 1]])


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the shared tables as they were."""
    attention, masks, mapping = (
        set(ATTENTION_FUNCTIONS),
        set(MASK_REPRESENTATIONS),
        dict(TheirAttention._global_mapping),
    )
    yield
    for table, before in ((ATTENTION_FUNCTIONS, attention), (MASK_REPRESENTATIONS, masks)):
        for name in set(table) - before:
            table.unregister(name)
    TheirAttention._global_mapping.clear()
    TheirAttention._global_mapping.update(mapping)


@pytest.mark.parametrize("name", ["dense", "additive", "dense_or_additive", "causal_or_dense"])
@pytest.mark.parametrize("keep", [None, KEEP], ids=["whole", "padded"])
def test_a_representation_of_headstock_serves_by_its_name(name: str, keep: Tensor | None) -> None:
    wanted = ours.create_causal_mask(config_of("sdpa"), EMBEDS, keep, None)
    found: Any = ours.create_causal_mask(config_of(name), EMBEDS, keep, None)
    assert torch.equal(*(meaning(mask, 3, 3, causal=True).expand(2, 1, 3, 3) for mask in (found, wanted)))
    if name == "causal_or_dense":
        assert (found is None) == (keep is None)
    else:
        assert found.shape == (2, 1, 3, 3)


def test_one_that_is_neither_tensor_nor_choice_comes_as_it_is() -> None:
    found: Any = ours.create_causal_mask(config_of("block_mask"), EMBEDS, KEEP, None)
    assert torch.equal(found.to_dense(), ours.flex_attention_mask(2, 3, 3, attention_mask=KEEP).to_dense())


@pytest.mark.parametrize("create", [ours.create_causal_mask, ours.create_bidirectional_mask])
def test_no_mask_is_chosen_only_where_the_caller_allows_it(create: Any) -> None:
    config, queries = config_of("causal_or_dense"), torch.zeros(1, 3, 8)
    said: dict[str, Any] = {"inputs_embeds": queries, "attention_mask": None, "past_key_values": None}
    kind = "causal" if create is ours.create_causal_mask else "bidirectional"
    assert create(config, **said) is None
    found = create(config, **said, **{f"allow_is_{kind}_skip": False})
    ones = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    assert torch.equal(found, ones.tril() if kind == "causal" else ones)


def test_a_users_representation_is_found_in_its_table_and_in_a_scope() -> None:
    def counted(mask: Any, geometry: Any, *, dtype: Any, device: Any) -> Any:
        return (geometry.shape, dtype, device)

    expected = ((2, 1, 3, 3), torch.float32, torch.device("cpu"))
    Representations.register("counted", counted)
    assert ours.create_causal_mask(config_of("counted"), EMBEDS, None, None) == expected
    with ALL_REPRESENTATIONS.override(scoped=counted):
        assert ours.create_causal_mask(config_of("scoped"), EMBEDS, None, None) == expected


def test_an_attention_function_is_given_what_it_declares() -> None:
    StrictAttention.register("adds", additive)
    found: Any = ours.create_causal_mask(config_of("adds"), EMBEDS.bfloat16(), KEEP, None)
    wanted: Any = ours.eager_mask(2, 3, 3, attention_mask=KEEP, dtype=torch.bfloat16)
    assert torch.equal(found, wanted)

    @StrictAttention.register("takes booleans", mask="dense")
    def boolean(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **keywords: Any) -> Any: ...

    @StrictAttention.register("takes none", mask="none")
    def without(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **keywords: Any) -> Any: ...

    found = ours.create_causal_mask(config_of("takes booleans"), EMBEDS, None, None)
    assert found.dtype == torch.bool
    assert ours.create_causal_mask(config_of("takes none"), EMBEDS, KEEP, None) is None


def test_what_a_function_declares_comes_before_a_representation_of_its_name_and_that_before_none() -> None:
    def mine(mask: Any, geometry: Any, *, dtype: Any, device: Any) -> str:
        return "mine"

    @StrictAttention.register("declared", mask="dense")
    def declared(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **keywords: Any) -> Any: ...

    StrictAttention.register("silent", additive)
    with ALL_REPRESENTATIONS.override(declared=mine, silent=mine):
        found: Any = ours.create_causal_mask(config_of("declared"), EMBEDS, KEEP, None)
        assert found.dtype == torch.bool
        assert ours.create_causal_mask(config_of("silent"), EMBEDS, KEEP, None) == "mine"
    added: Any = ours.create_causal_mask(config_of("silent"), EMBEDS, KEEP, None)
    assert added.dtype == torch.float32


def test_padding_of_an_attention_function_without_entry_counts_where_theirs_drops_it() -> None:
    eager = tiny("llama", "eager")
    ids = torch.tensor([[0, 0, 3, 4], [1, 2, 3, 4]])
    keep = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    with torch.no_grad():
        wanted = eager(ids, attention_mask=keep).logits
    StrictAttention.register("adds", additive)
    TheirAttention.register("adds", additive)
    model = tiny("llama", "adds")
    assert theirs.create_causal_mask(model.config, torch.zeros(2, 4, 8), keep, None) is None
    with torch.no_grad(), masks_from(ours, model):
        found = model(ids, attention_mask=keep).logits
    with torch.no_grad():
        wrong = model(ids, attention_mask=keep).logits
    real = keep.bool()
    # Two roundings of float32 in each of two layers; what theirs drops is farther away by orders.
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-5, atol=1e-5)
    assert (wrong[real] - wanted[real]).abs().max() > 1e-3


def test_a_name_that_no_table_has_is_refused_where_theirs_makes_no_mask() -> None:
    assert theirs.create_causal_mask(config_of("my_sdpa"), EMBEDS, KEEP, None) is None
    with pytest.raises(UnknownName, match=r"'my_sdpa'.*AttentionMaskInterface.register\('my_sdpa', sdpa_mask\) makes"):
        ours.create_causal_mask(config_of("my_sdpa"), EMBEDS, KEEP, None)
    with pytest.raises(UnknownName, match=r"'my_sdpa'"):
        ours._preprocess_mask_arguments(config_of("my_sdpa"), EMBEDS, KEEP, None, None, 0)


def test_the_prefix_of_a_paged_layout_is_none_of_the_mask() -> None:
    for name in ("sdpa", "eager", "dense"):
        found, wanted = (
            ours.create_causal_mask(config_of(each), EMBEDS, KEEP, None) for each in (f"paged|{name}", name)
        )
        assert equal(found, wanted)
    local = ours.AttentionMaskInterface()
    local["paged|sdpa"] = lambda **_: "its own"
    assert ours.create_causal_mask(config_of("paged|sdpa"), EMBEDS, KEEP, None, mask_interface=local) == "its own"


@pytest.mark.parametrize("name", [None, 3])
def test_a_configuration_that_names_none_is_refused(name: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"config._attn_implementation must name an attention implementation, got"):
        ours.create_causal_mask(config_of(name), EMBEDS, KEEP, None)


def test_the_helper_mask_is_the_prepared_one() -> None:
    seen: list[Any] = []

    def kept(mask: Any, geometry: Any, *, dtype: Any, device: Any) -> None:
        seen.append(mask)

    with ALL_REPRESENTATIONS.override(kept=kept):
        ours.create_causal_mask(config_of("kept"), EMBEDS, None, None)
    assert repr(seen[0].mask) == "causal()"
    assert torch.equal(seen[0].dense(), prepare(causal(), Geometry(2, 3, 3)).dense())
