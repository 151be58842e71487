"""What a forward prepares for its layers, and refuses: masks, positions, the tokens in the cache."""

import pytest
import torch
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks import first_tokens, sliding_window
from tests.support.llama import left_padded, limit, tiny
from tests.support.models import ids


def test_positions_are_counted_on_from_the_cache() -> None:
    model, tokens = tiny(), ids(2, 8)
    cache, shifted = model.new_cache(), torch.arange(5, 13)[None]
    with torch.no_grad():
        expected = model(tokens, position_ids=shifted).logits
        first = model(tokens[:, :6], position_ids=shifted[:, :6], cache=cache).logits
        then = model(tokens[:, 6:], position_ids=shifted[:, 6:], cache=cache).logits
    # Rotation is relative: where all positions are shifted by one number, nothing but rounding changes.
    assert (torch.cat([first, then], 1) - expected).abs().max() <= limit(model, tokens)
    assert (expected - model(tokens).logits).abs().max() <= 10 * limit(model, tokens)


def test_a_pattern_is_joined_to_the_causal_mask_also_through_a_cache() -> None:
    model, tokens = tiny(), ids(1, 12)
    pattern = sliding_window(3, right=2) | first_tokens(1)
    whole = model(tokens, pattern).logits
    assert not torch.allclose(whole, model(tokens).logits)
    cache, found = model.new_cache(), []
    with torch.no_grad():
        for begin, end in [(0, 5), (5, 6), (6, 12)]:
            found.append(model(tokens[:, begin:end], pattern, cache=cache).logits)
    assert (torch.cat(found, 1) - whole).abs().max() <= limit(model, tokens)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"input_ids": torch.ones(2, 5)}, r"input_ids must be integers \[batch, tokens\], got torch\.float32"),
        ({"position_ids": torch.ones(3, 5).long()}, r"position_ids must be integers \[2 or 1, 5\]"),
        ({"attention_mask": torch.ones(2, 5).bool()}, r"\[2, 8\], True or 1 .*in the cache included, got .* \[2, 5\]"),
        ({"attention_mask": torch.ones(1, 8).bool()}, r"attention_mask must be booleans or integers \[2, 8\]"),
        ({"attention_mask": torch.ones(2, 8)}, r"got torch\.float32 \[2, 8\]; other masks are given as a headstock"),
        ({"attention_mask": torch.ones(2, 9).bool()}, r"got torch\.bool \[2, 9\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arguments: dict[str, Tensor], rule: str) -> None:
    model = tiny()
    cache = model.new_cache()
    with torch.no_grad():
        model(ids(2, 3), cache=cache)
        with pytest.raises(InvalidShape, match=rule):
            model(**{"input_ids": ids(2, 5), **arguments}, cache=cache)
    assert cache.seen == 3


def test_a_static_cache_takes_a_mask_of_its_length() -> None:
    model, tokens, mask = tiny(), ids(2, 9), left_padded(2, 20)
    cache = model.new_cache("static", max_length=20)
    with torch.no_grad():
        found = [model(tokens[:, :6], mask, cache=cache).logits, model(tokens[:, 6:], mask, cache=cache).logits]
    expected = model(tokens, mask[:, :9]).logits
    assert (torch.cat(found, 1) - expected)[mask[:, :9]].abs().max() <= limit(model, tokens)


def test_an_overflow_is_refused_before_any_work() -> None:
    model, started = tiny(), []
    model.model.embed_tokens.register_forward_pre_hook(lambda *_: started.append(True))
    cache = model.new_cache("static", max_length=4)
    with torch.no_grad(), pytest.raises(InvalidShape, match="max_length=4 must have room for every token, got 5 more"):
        model(ids(1, 5), cache=cache)
    assert (started, cache.seen) == ([], 0)


def test_a_forward_that_was_broken_off_is_noticed() -> None:
    model, cache, tokens = tiny(), tiny().new_cache(), ids(1, 6)
    with torch.no_grad():
        model(tokens[:, :4], cache=cache)
        handle = model.layers[2].register_forward_pre_hook(lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            model(tokens[:, 4:], cache=cache)
        handle.remove()
        with pytest.raises(InvalidShape, match=r"got 6 in layer 0 and 4 in another .*; cache\.crop\(cache\.seen\)"):
            model(tokens[:, 4:], cache=cache)
        cache.crop(cache.seen)
        found = model(tokens[:, 4:], cache=cache).logits
    assert (found - model(tokens).logits[:, 4:]).abs().max() <= limit(model, tokens)
