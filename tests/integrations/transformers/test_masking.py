"""What transformers' `create_*` functions make with headstock's mask function."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import StaticCache, masking_utils

from headstock.errors import InvalidShape
from headstock.integrations.transformers.carrier import MaskCarrier
from headstock.integrations.transformers.masking import mask_function
from tests.support.transformers_attention import with_headstock
from tests.support.transformers_masks import caches, config_of, padding_masks

WINDOW = 4
CREATE = (
    *("create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask"),
    *("create_bidirectional_mask", "create_bidirectional_sliding_window_mask"),
)


@pytest.fixture(autouse=True, scope="module")
def _installed() -> Iterator[None]:
    with with_headstock():
        yield


def created(name: str, implementation: str, embeds: Any, keep: Any, cache: Any, **said: Any) -> Any:
    config = config_of(implementation, sliding_window=WINDOW, attention_chunk_size=WINDOW, model_type="tinymodel")
    return getattr(masking_utils, name)(config, embeds, keep, past_key_values=cache, **said)


@pytest.mark.parametrize("name", CREATE)
@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_entries_are_those_of_transformers_own(name: str, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 3))
    call = data.draw(caches(rows, WINDOW))
    embeds = torch.zeros(rows, call.new, 8)
    # Without a cache, a mask may tell more keys than there are queries.
    keep = data.draw(padding_masks(rows, call.seen + call.new if call.cache is not None else call.new))
    try:
        # Eager's, as numbers, since sdpa's may be left out.
        wanted = created(name, "eager", embeds, keep, call.cache, **skips(name))
    except ValueError:  # what theirs refuses, such as chunks with windows in the cache
        return
    found = created(name, "headstock", embeds, keep, call.cache, **skips(name))
    assert isinstance(found, MaskCarrier)
    assert torch.equal(found.tensor("dense"), wanted == 0)
    assert found.shape == wanted.shape


def made(*sizes: Any, **said: Any) -> MaskCarrier:
    """As the function that transformers calls, for models that leave their mask alone."""
    found = mask_function(*sizes, **said)
    assert isinstance(found, MaskCarrier)
    return found


def skips(name: str) -> dict[str, bool]:
    return {"allow_is_bidirectional_skip": False} if "bidirectional" in name else {}


@pytest.mark.parametrize("joined", ["or_mask_function", "and_mask_function"])
def test_functions_of_the_user_are_joined_in(joined: str) -> None:
    embeds = torch.zeros(2, 7, 8)
    said = {joined: lambda b, h, q, kv: (q - kv) % 3 == b}
    wanted = created("create_causal_mask", "eager", embeds, None, None, **said)
    found = created("create_causal_mask", "headstock", embeds, None, None, **said)
    assert torch.equal(found.tensor("dense"), wanted == 0)


def test_packed_sequences_are_read_from_their_positions() -> None:
    embeds, positions = torch.zeros(1, 7, 8), torch.tensor([[0, 1, 2, 0, 1, 0, 1]])
    wanted = created("create_causal_mask", "eager", embeds, None, None, position_ids=positions)
    found = created("create_causal_mask", "headstock", embeds, None, None, position_ids=positions)
    assert found.is_packed
    assert repr(found.mask) == "documents(ids=int64[1, 7]) & causal()"
    assert torch.equal(found.tensor("dense"), wanted == 0)


@pytest.mark.parametrize(
    ("keep", "kept"), [(torch.ones(2, 6), True), (torch.tensor([[1] * 6, [0] + [1] * 5]), False)], ids=["ones", "left"]
)
def test_padding_that_hides_nothing_is_left_out(keep: torch.Tensor, kept: bool) -> None:
    found = created("create_causal_mask", "headstock", torch.zeros(2, 6, 8), keep, None)
    assert (found.keep is None) is kept


def test_columns_of_a_static_cache_that_no_query_reaches_are_no_padding() -> None:
    found = made(2, 4, 16, attention_mask=torch.ones(2, 4))
    assert found.keep is None
    assert found.prepared(1).causal_or_dense() == (None, True)


def test_what_a_bidirectional_mask_lacks_is_hidden() -> None:
    everything = masking_utils.bidirectional_mask_function
    found = made(1, 3, 5, mask_function=everything, attention_mask=torch.ones(1, 3))
    assert found.tensor("dense")[0, 0, 0].tolist() == [True, True, True, False, False]


def test_a_mask_that_comes_back_is_returned_as_it_is() -> None:
    first = mask_function(1, 3, 5, 2)
    assert mask_function(1, 3, 5, 2, attention_mask=first) is first
    with pytest.raises(InvalidShape, match=r"this forward's extent, .* \[1, 1, 3, 6\], got \[1, 1, 3, 5\]"):
        mask_function(1, 3, 6, 3, attention_mask=first)


@pytest.mark.parametrize("shape", [(6,), (2, 1, 6)])
def test_padding_of_other_dimensions_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=r"must be padding \[batch, keys\] or a tensor .*, got \["):
        mask_function(2, 6, 6, attention_mask=torch.ones(shape))


def test_a_step_of_a_static_cache_has_its_tensor_made() -> None:
    offset = torch.tensor(5)
    found = made(2, 1, 16, offset, attention_mask=torch.ones(2, 6))
    given = found.prepared(4).given
    assert given is not None
    assert given.expand(2, 1, 1, 16)[0, 0, 0].tolist() == [True] * 6 + [False] * 10


@pytest.mark.parametrize("model", ["doge", "deepseek_v4", "bigbird_pegasus"])
def test_models_that_compute_with_their_mask_are_given_a_tensor(model: str) -> None:
    found = mask_function(1, 3, 3, config=config_of("headstock", model_type=model), dtype=torch.float16)
    assert isinstance(found, torch.Tensor)
    assert (found.dtype, found.shape) == ({"doge": torch.bool}.get(model, torch.float16), (1, 1, 3, 3))


@pytest.mark.slow
def test_a_plain_function_in_a_graph_is_laid_out_there() -> None:
    def said(offset: int, kv_length: int) -> torch.Tensor:
        found = made(1, 2, kv_length, offset, mask_function=lambda b, h, q, kv: (q + kv) % 2 == 0)
        return found.prepared(1).tiled_plan().tiles

    compiled = torch.compile(said, fullgraph=True, backend="eager")
    assert compiled(3, 5)[0, :2, :5].tolist() == [[i % 2 == j % 2 for j in range(5)] for i in (3, 4)]


def test_a_static_cache_is_planned_for_what_it_holds() -> None:
    cache = StaticCache(config_for_cache(), max_cache_len=32)
    found = created("create_causal_mask", "headstock", torch.zeros(1, 5, 8), torch.ones(1, 5), cache)
    assert found.shape == (1, 1, 5, 32)
    assert found.prepared(1).causal_or_dense() == (None, True)


def config_for_cache() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1, vocab_size=16, intermediate_size=8)
