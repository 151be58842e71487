"""What transformers drops of a mask that is not causal."""

from typing import Any

import pytest
import torch
from transformers import masking_utils as their_module

from headstock.compat import masking_utils as ours
from headstock.errors import InvalidConfig, UnsupportedFeature
from tests.support.transformers_masks import config_of

theirs: Any = their_module
EMBEDS = torch.zeros(1, 4, 8)
PACKED = torch.tensor([[0, 1, 0, 1]])
TWO = torch.tensor([[0, 0, 1, 1]])
BOTH = pytest.mark.parametrize("kind", ["bidirectional", "bidirectional_sliding_window"])


def _apart(mask: Any) -> bool:
    """Whether the two documents of `PACKED` see themselves alone."""
    return torch.equal(mask, (TWO[:, :, None] == TWO[:, None])[:, None])


def test_packed_documents_of_an_encoder_are_apart_where_theirs_see_each_other() -> None:
    config = config_of("sdpa")
    assert theirs.create_bidirectional_mask(config, EMBEDS, None, position_ids=PACKED) is None
    assert _apart(ours.create_bidirectional_mask(config, EMBEDS, None, position_ids=PACKED))


def test_packed_documents_of_a_decoder_that_is_not_causal_are_apart_too() -> None:
    config = config_of("sdpa", is_causal=False, sliding_window=3)
    for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
        assert _apart(getattr(ours, name)(config, EMBEDS, None, None, PACKED))
    assert theirs.create_causal_mask(config, EMBEDS, None, None, PACKED) is None
    mixed = theirs.create_sliding_window_causal_mask(config, EMBEDS, None, None, PACKED)
    assert mixed is None or mixed.all()


def test_blocks_are_seen_beyond_a_window_where_theirs_drop_them() -> None:
    config, ids = config_of("sdpa", sliding_window=1, is_causal=False), torch.tensor([[0, -1, -1, 0]])
    found: Any = ours.create_sliding_window_causal_mask(config, EMBEDS, None, None, block_sequence_ids=ids)
    wrong = theirs.create_sliding_window_causal_mask(config, EMBEDS, None, None, block_sequence_ids=ids)
    assert found[0, 0, 0].tolist() == [True, True, False, True]
    assert wrong[0, 0, 0].tolist() == [True, True, False, False]


def test_the_layer_of_the_cache_is_asked_where_theirs_ask_the_first() -> None:
    class Cache:
        """Holds more tokens in its second layer."""

        is_sliding = is_linear = is_dummy = (False, False)

        def get_query_offset(self, layer_idx: int) -> int:
            return (1, 3)[layer_idx]

        def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
            return query_length + (1, 3)[layer_idx], 0

    config = config_of("eager", is_causal=False)
    for layer in (0, 1):
        said: dict[str, Any] = {"past_key_values": Cache(), "layer_idx": layer, "allow_is_causal_skip": False}
        found: Any = ours.create_causal_mask(config, EMBEDS, None, **said)
        assert found.shape[-1] == (5, 7)[layer]
        assert theirs.create_causal_mask(config, EMBEDS, None, **said).shape[-1] == 5


def test_positions_of_the_queries_say_nothing_of_another_sequence() -> None:
    found = ours.create_bidirectional_mask(config_of("sdpa"), EMBEDS, None, torch.zeros(1, 6, 8), position_ids=PACKED)
    assert found is None


@BOTH
def test_another_keyword_is_refused_where_theirs_drop_it(kind: str) -> None:
    said: tuple[Any, ...] = (config_of("sdpa", sliding_window=3), EMBEDS, None)
    getattr(theirs, f"create_{kind}_mask")(*said, sliding_window=1)
    with pytest.raises(UnsupportedFeature, match=r"a bidirectional mask must not be given 'sliding_window', got 1"):
        getattr(ours, f"create_{kind}_mask")(*said, sliding_window=1)
    assert getattr(ours, f"create_{kind}_mask")(*said, sliding_window=None) is not None or kind == "bidirectional"


@pytest.mark.parametrize("value", [None, 0, -2, 2.5, True])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("create_sliding_window_causal_mask", "sliding_window"),
        ("create_bidirectional_sliding_window_mask", "sliding_window"),
        ("create_chunked_causal_mask", "attention_chunk_size"),
    ],
)
def test_a_configuration_without_a_positive_size_is_refused(name: str, field: str, value: Any) -> None:
    config = config_of("sdpa", **{field: value})
    said = (config, EMBEDS, None) if "bidirectional" in name else (config, EMBEDS, None, None)
    with pytest.raises(InvalidConfig, match=rf"config.{field} must be a positive integer for this mask, got"):
        getattr(ours, name)(*said)
