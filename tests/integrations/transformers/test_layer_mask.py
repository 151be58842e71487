"""What a layer makes of the mask that it is handed, None included, and of the keywords beside it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.integrations.transformers.attending import attention_function
from headstock.integrations.transformers.masking import mask_function

# float32 rounds to 6e-8; a weighted mean of 16 numbers of size 1 is off by less than 16 of that, twice as two compare.
LIMIT = 2e-6
ATTEND = attention_function("headstock", "auto")


class Layer(nn.Module):
    """What functions read of their module."""

    def __init__(self, is_causal: bool | None = None) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="tinymodel")
        self.layer_idx = 0
        self.num_key_value_groups = 2
        if is_causal is not None:
            self.is_causal = is_causal


def operands(queries: int = 5, keys: int = 5, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(batch, 4, queries, 8), torch.randn(batch, 2, keys, 8), torch.randn(batch, 2, keys, 8)


@pytest.mark.parametrize("module_says", [None, True, False])
@pytest.mark.parametrize("call_says", [None, True, False])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 5), (3, 7)])
def test_no_mask_means_what_transformers_sdpa_makes_of_it(
    module_says: bool | None, call_says: bool | None, queries: int, keys: int
) -> None:
    layer, tensors = Layer(module_says), operands(queries, keys)
    found, _ = ATTEND(layer, *tensors, None, is_causal=call_says)
    wanted, _ = sdpa_attention_forward(layer, *tensors, None, is_causal=call_says)
    assert (found - wanted).abs().max() <= LIMIT


@pytest.mark.parametrize("boolean", [True, False])
@pytest.mark.parametrize("heads", [1, 4])
def test_a_tensor_of_four_dimensions_is_honoured(boolean: bool, heads: int) -> None:
    tensors = operands(4, 6)
    mask = torch.randn(2, heads, 4, 6)
    given = (mask > 0) | (torch.arange(6) == 0) if boolean else mask
    found, _ = ATTEND(Layer(), *tensors, given)
    key, value = (each.repeat_interleave(2, 1) for each in tensors[1:])
    wanted = functional.scaled_dot_product_attention(tensors[0], key, value, given)
    assert (found.transpose(1, 2) - wanted).abs().max() <= LIMIT


@pytest.mark.parametrize(
    "mask", [torch.ones(2, 5), torch.ones(2, 5, 5), object()], ids=["padding", "three dimensions", "no tensor"]
)
def test_a_mask_of_another_implementation_is_refused(mask: Any) -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"the mask of tinymodel \(Layer\) must come from headstock's mask function .*set_attn"
    ):
        ATTEND(Layer(), *operands(), mask)


def test_a_mask_of_another_extent_is_refused() -> None:
    mask = mask_function(2, 5, 7, 2, config=SimpleNamespace(model_type="tinymodel"))
    with pytest.raises(InvalidShape, match=r"mask of tinymodel must have the extent .*\[2, 1, 5, 5\], got \[2, 1, 5"):
        ATTEND(Layer(), *operands(), mask)


def test_a_window_beside_a_mask_is_not_applied_twice() -> None:
    tensors = operands()
    mask = mask_function(2, 5, 5)
    assert torch.equal(ATTEND(Layer(), *tensors, mask, sliding_window=2)[0], ATTEND(Layer(), *tensors, mask)[0])


@pytest.mark.parametrize("queries", [5, 1])
def test_a_window_without_a_mask_is_a_causal_one(queries: int) -> None:
    tensors = operands(queries, 5)
    first = 5 - queries
    seen = (torch.arange(5) - torch.arange(first, 5)[:, None]).abs() < 2
    seen &= torch.arange(5) <= torch.arange(first, 5)[:, None]
    found, _ = ATTEND(Layer(), *tensors, None, sliding_window=2)
    wanted, _ = ATTEND(Layer(), *tensors, seen[None, None])
    assert (found - wanted).abs().max() <= LIMIT


def test_a_window_without_mask_and_causality_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match=r"must make a mask of its window, got sliding_window=2"):
        ATTEND(Layer(False), *operands(), None, sliding_window=2)
    ATTEND(Layer(False), *operands(), None, sliding_window=5)  # which hides nothing


@pytest.mark.parametrize("kind", ["carrier", "boolean", "numbers", "none"])
def test_the_keys_that_an_indexer_chose_are_seen_alone(kind: str) -> None:
    tensors = operands(4, 4)
    indices = torch.tensor([[0, 0], [1, 0], [2, 1], [0, 3]])[None].expand(2, -1, -1).int()
    causal = torch.ones(4, 4).bool().tril()[None, None].expand(2, 1, 4, 4)
    chosen = torch.zeros(2, 4, 4).bool().scatter(-1, indices.long(), True)[:, None]
    mask: Any = {
        "carrier": mask_function(2, 4, 4),
        "boolean": causal,
        "numbers": torch.zeros(2, 1, 4, 4).masked_fill(~causal, torch.finfo(torch.float32).min),
        "none": None,
    }[kind]
    found, _ = ATTEND(Layer(False), *tensors, mask, indices=indices)
    wanted, _ = ATTEND(Layer(False), *tensors, chosen if mask is None else chosen & causal)
    assert (found - wanted).abs().max() <= LIMIT


PACKED = {"cu_seq_lens_q": torch.tensor([0, 2, 5]), "max_length_q": 3}


def test_cumulative_lengths_alone_are_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="packed sequences must be told to the mask, got cumulative lengths"):
        ATTEND(Layer(), *operands(), mask_function(2, 5, 5), **PACKED)


def test_cumulative_lengths_beside_a_packed_mask_repeat_it() -> None:
    from transformers.masking_utils import packed_sequence_mask_function

    tensors, ids = operands(), torch.tensor([[0, 0, 1, 1, 1]] * 2)
    mask = mask_function(2, 5, 5, mask_function=packed_sequence_mask_function(ids))
    found, _ = ATTEND(Layer(), *tensors, mask, **PACKED)
    wanted, _ = ATTEND(Layer(), *tensors, (ids[:, None, :] == ids[:, :, None])[:, None])
    assert (found - wanted).abs().max() <= LIMIT


def test_a_paged_cache_of_transformers_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match=r"keys and values must come as tensors, got a paged cache"):
        ATTEND(Layer(), *operands(), None, cache=object())


def test_an_unknown_keyword_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFeature, match="block_indices"):
        ATTEND(Layer(), *operands(), None, block_indices=torch.zeros(1))


def test_what_models_pass_through_every_layer_changes_nothing() -> None:
    tensors = operands()
    passed = {"position_ids": torch.arange(5)[None], "use_cache": True, "num_items_in_batch": 3, "labels": None}
    assert torch.equal(ATTEND(Layer(), *tensors, None, **passed)[0], ATTEND(Layer(), *tensors, None)[0])


def test_weights_are_given_to_who_asks_for_them() -> None:
    tensors = operands()
    _, weights = ATTEND(Layer(), *tensors, None, output_attentions=True)
    assert weights is not None
    assert torch.equal(weights[0, 0].tril(), weights[0, 0])
    assert (weights.sum(-1) - 1).abs().max() <= LIMIT
    assert ATTEND(Layer(), *tensors, None)[1] is None


def test_a_row_that_sees_nothing_gives_zeros() -> None:
    keep = torch.tensor([[1] * 5, [0] * 2 + [1] * 3])
    found, _ = ATTEND(Layer(), *operands(), mask_function(2, 5, 5, attention_mask=keep))
    assert not found[1, :2].any()
    assert found[1, 2:].any()
