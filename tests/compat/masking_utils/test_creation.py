"""What a forward says beside the pattern, joined as transformers joins it."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from transformers import DynamicCache
from transformers import masking_utils as theirs

from headstock.compat import masking_utils as ours
from headstock.errors import InvalidComponent, InvalidShape
from tests.support.transformers_masks import caches, config_of, equal, padding_masks

CAUSAL = ["create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask"]
BIDIRECTIONAL = ["create_bidirectional_mask", "create_bidirectional_sliding_window_mask"]


def thirds(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (i + j) % 3 == 0


def stacked(b: Any, h: Any, i: Any, j: Any) -> Any:
    """Has a meaning under vmap alone."""
    return torch.stack([j <= i + 1, j != 2]).all()


FURTHER: dict[str, Callable[[ModuleType], Any]] = {
    "nothing": lambda _: None,
    "thirds": lambda _: thirds,
    "stacked": lambda _: stacked,
    "window": lambda masks: masks.sliding_window_overlay(2),
    "either side": lambda masks: masks.sliding_window_bidirectional_overlay(1),
    "joined": lambda masks: masks.or_masks(thirds, masks.causal_mask_function),
}


@st.composite
def packed_positions(draw: st.DrawFn, rows: int, length: int) -> Tensor:
    """Positions that begin anew at 0 in each document."""
    starts = [draw(st.lists(st.booleans(), min_size=length, max_size=length)) for _ in range(rows)]
    positions = torch.zeros(rows, length, dtype=torch.int64)
    for row, begins in enumerate(starts):
        for token in range(1, length):
            positions[row, token] = 0 if begins[token] else positions[row, token - 1] + 1
    return positions


@st.composite
def block_ids(draw: st.DrawFn, rows: int, length: int) -> Tensor:
    values = st.lists(st.integers(-1, 1), min_size=length, max_size=length)
    return torch.tensor([draw(values) for _ in range(rows)]).reshape(rows, length)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.sampled_from(["eager", "sdpa"]))
@pytest.mark.parametrize("name", CAUSAL)
def test_decoders_equal_theirs(name: str, data: st.DataObject, implementation: str) -> None:
    batch_size, window = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    call = data.draw(caches(batch_size, window))
    total = call.seen + call.new
    rows = data.draw(st.sampled_from([1, batch_size]))
    shared: dict[str, Any] = {
        "config": config_of(implementation, sliding_window=window, attention_chunk_size=window),
        "inputs_embeds": torch.zeros(batch_size, call.new, 8),
        "attention_mask": data.draw(padding_masks(batch_size, total)),
        "past_key_values": call.cache,
        "position_ids": data.draw(st.one_of(st.none(), packed_positions(rows, call.new))),
        "block_sequence_ids": data.draw(st.one_of(st.none(), block_ids(batch_size, total))),
    }
    wider, narrower = data.draw(st.sampled_from(sorted(FURTHER))), data.draw(st.sampled_from(sorted(FURTHER)))
    found, wanted = (
        getattr(masks, name)(
            **shared, or_mask_function=FURTHER[wider](masks), and_mask_function=FURTHER[narrower](masks)
        )
        for masks in (ours, theirs)
    )
    assert equal(found, wanted)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.sampled_from(["eager", "sdpa"]))
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_encoders_equal_theirs(name: str, data: st.DataObject, implementation: str) -> None:
    batch_size, queries, keys = (data.draw(st.integers(1, most)) for most in (3, 6, 6))
    crossed = torch.zeros(batch_size, keys, 4, dtype=torch.float64) if data.draw(st.booleans()) else None
    shared: dict[str, Any] = {
        "config": config_of(implementation, sliding_window=data.draw(st.integers(1, 6))),
        "inputs_embeds": torch.zeros(batch_size, queries, 8),
        "attention_mask": data.draw(padding_masks(batch_size, queries if crossed is None else keys)),
        "encoder_hidden_states": crossed,
        "allow_is_bidirectional_skip": data.draw(st.booleans()),
    }
    wider, narrower = data.draw(st.sampled_from(sorted(FURTHER))), data.draw(st.sampled_from(sorted(FURTHER)))
    found, wanted = (
        getattr(masks, name)(
            **shared, or_mask_function=FURTHER[wider](masks), and_mask_function=FURTHER[narrower](masks)
        )
        for masks in (ours, theirs)
    )
    assert equal(found, wanted)


@pytest.mark.parametrize("name", ["create_causal_mask", "create_sliding_window_causal_mask"])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_decoder_told_not_to_be_causal_equals_theirs(name: str, allowed: bool) -> None:
    config = config_of("sdpa", is_causal=False, sliding_window=2)
    for keep in (None, torch.tensor([[0, 1, 1, 1, 1]])):
        said = (config, torch.zeros(1, 5, 8), keep, None)
        found, wanted = (getattr(masks, name)(*said, allow_is_causal_skip=allowed) for masks in (ours, theirs))
        assert equal(found, wanted)


@settings(deadline=None, max_examples=12)
@given(st.data())
@pytest.mark.parametrize("name", CAUSAL)
def test_block_masks_equal_theirs(name: str, data: st.DataObject) -> None:
    batch_size, window = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 200))
    seen, new = data.draw(st.sampled_from([0, 0, 130])), data.draw(st.integers(1, 260))
    keep = data.draw(st.one_of(st.none(), st.integers(0, seen + new)))
    padding = None if keep is None else (torch.arange(seen + new) >= keep).expand(batch_size, -1)
    cache = DynamicCache() if seen else None
    if cache is not None:
        cache.update(torch.zeros(batch_size, 1, seen, 8), torch.zeros(batch_size, 1, seen, 8), 0)
    config = config_of("flex_attention", sliding_window=window, attention_chunk_size=window)
    said = (config, torch.zeros(batch_size, new, 8), padding, cache)
    found = getattr(ours, name)(*said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "create_block_mask", _uncompiled)
        wanted = getattr(theirs, name)(*said)
    assert found.shape == wanted.shape
    assert found.BLOCK_SIZE == wanted.BLOCK_SIZE
    for part in ("kv_num_blocks", "full_kv_num_blocks"):
        assert torch.equal(getattr(found, part), getattr(wanted, part))
    for blocks, counts in (("kv_indices", "kv_num_blocks"), ("full_kv_indices", "full_kv_num_blocks")):
        used = torch.arange(getattr(found, blocks).shape[-1]) < getattr(found, counts)[..., None]
        assert torch.equal(getattr(found, blocks)[used], getattr(wanted, blocks)[used])
    indices = (torch.arange(batch_size)[:, None, None], 0, torch.arange(new)[:, None], torch.arange(seen + new))
    assert torch.equal(*(mask.mask_mod(*indices).expand(batch_size, new, seen + new) for mask in (found, wanted)))


def _uncompiled(*args: Any, _compile: bool, **keywords: Any) -> Any:
    return create_block_mask(*args, **keywords)


def test_what_a_forward_says_arrives_at_the_mask_function() -> None:
    arrived: dict[str, Any] = {}
    local = ours.AttentionMaskInterface()
    local["sdpa"] = lambda **said: arrived.update(said)
    config, embeds = config_of("sdpa", sliding_window=3), torch.zeros(2, 4, 8, dtype=torch.bfloat16)
    keep = torch.ones(2, 4, dtype=torch.int64)
    ours.create_sliding_window_causal_mask(config, embeds, keep, None, or_mask_function=thirds, mask_interface=local)
    assert torch.equal(arrived.pop("attention_mask"), keep.bool())
    assert repr(arrived.pop("mask_function")) == "sliding_window(size=3) | Mask(thirds)"
    assert arrived == {
        "batch_size": 2,
        "q_length": 4,
        "kv_length": 4,
        "q_offset": 0,
        "kv_offset": 0,
        "local_size": 3,
        "allow_is_causal_skip": False,
        "allow_is_bidirectional_skip": False,
        "use_vmap": True,
        "dtype": torch.bfloat16,
        "config": config,
        "device": torch.device("cpu"),
    }


def test_packed_causality_is_written_as_headstock_would() -> None:
    arrived: list[Any] = []
    local = ours.AttentionMaskInterface()
    local["sdpa"] = lambda **said: arrived.append(said["mask_function"])
    positions = torch.tensor([[0, 1, 0, 1, 2]])
    ours.create_causal_mask(config_of("sdpa"), torch.zeros(1, 5, 8), None, None, positions, mask_interface=local)
    assert repr(arrived[0]) == "documents(ids=int64[1, 5]) & causal()"


@pytest.mark.parametrize("shape", [(3,), (1, 3, 3), (1, 1, 1, 3, 3)])
def test_padding_of_other_dimensions_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=r"attention_mask must be a padding mask \[batch, keys\] or prepared"):
        ours.create_causal_mask(config_of("sdpa"), torch.zeros(1, 3, 8), torch.ones(shape), None)


def test_padding_that_is_to_be_added_is_refused_where_theirs_reads_it_reversed() -> None:
    keep = torch.tensor([[-torch.inf, 0.0, 0.0]])
    said = (config_of("sdpa"), torch.zeros(1, 3, 8), keep, None)
    with pytest.raises(InvalidShape, match=r"ones for the keys to see .* negative values"):
        ours.create_causal_mask(*said)
    reversed_mask: Any = theirs.create_causal_mask(*said)
    assert reversed_mask[0, 0, 2].tolist() == [True, False, False]


def test_padding_of_another_batch_is_refused() -> None:
    with pytest.raises(InvalidShape, match="padding's keep must have one row for each of 2 batch rows, got 3"):
        ours.create_causal_mask(config_of("sdpa"), torch.zeros(2, 3, 8), torch.zeros(3, 3), None)


def test_a_function_that_is_none_is_refused() -> None:
    config, embeds = config_of("sdpa"), torch.zeros(1, 3, 8)
    for wrong in (torch.ones(3, 3), "causal"):
        with pytest.raises(InvalidComponent, match=r"a mask function must be a function .* pass padding as"):
            ours.create_causal_mask(config, embeds, None, None, or_mask_function=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidComponent, match=r"must return a boolean, got torch.int64"):
        ours.create_causal_mask(config, embeds, None, None, and_mask_function=lambda b, h, i, j: i - j)
