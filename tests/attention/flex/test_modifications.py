"""What is asked of each score, evaluated at all pairs at once."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.attention.flex.biases import flattened
from headstock.attention.flex.modifications import Numbers, Options, score_mod_of
from headstock.masks import Geometry
from headstock.masks.indices import indices_of


@given(softcap=st.sampled_from([0.0, 0.5, 30.0]), is_biased=st.booleans(), has_sinks=st.booleans())
def test_scores_are_scaled_capped_biased_and_the_last_key_is_the_sink(
    softcap: float, is_biased: bool, has_sinks: bool
) -> None:
    batch, heads, queries, keys = shape = (2, 3, 5, 4)
    bias, sinks, scaling = torch.randn(shape), torch.randn(heads), -0.3
    flat = flattened(bias, None, batch)
    numbers = Numbers(
        torch.tensor([queries, keys, 0, 0, 0, *flat.strides]),
        torch.tensor([scaling, softcap]),
        flat.values,
        flat.first,
        sinks,
    )
    # A query and a key more, as where one is made two.
    longer = Geometry(batch, queries + 1, keys + 1, heads=heads)
    score = torch.randn(longer.shape)
    found = score_mod_of(numbers, Options(softcap > 0, is_biased, has_sinks))(score, *indices_of(longer, None))
    expected = score * scaling
    if softcap:
        expected = softcap * torch.tanh(expected / softcap)
    own = expected[:, :, :queries, :keys] + (bias if is_biased else 0.0)
    assert torch.equal(found[:, :, :queries, :keys], own)
    if has_sinks:
        assert torch.equal(found[..., keys], sinks[None, :, None].expand(batch, heads, queries + 1))
