"""Masks of four dimensions, and opaque ones: handed on in the form that the implementation takes."""

from typing import Any

import pytest
import torch
from transformers import masking_utils as theirs

from headstock.compat import masking_utils as ours
from headstock.errors import InvalidShape
from headstock.masks import Geometry, causal, prepare
from tests.support.transformers_masks import config_of


class TestPrepared:
    """Masks of four dimensions, and opaque ones."""

    shapes = pytest.mark.parametrize("shape", [(2, 1, 3, 5), (1, 4, 3, 5)])

    @shapes
    @pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention", "flash_attention_2", "unknown"])
    def test_one_to_add_comes_back(self, implementation: str, shape: tuple[int, ...]) -> None:
        given_mask = torch.randn(shape)
        said = (config_of(implementation), torch.zeros(2, 3, 8), given_mask, None)
        assert ours.create_causal_mask(*said) is given_mask is theirs.create_causal_mask(*said)

    @pytest.mark.parametrize("implementation", ["sdpa", "flash_attention_2", "unknown"])
    def test_a_boolean_one_comes_back_where_booleans_are_taken(self, implementation: str) -> None:
        given_mask = torch.randn(2, 1, 3, 5) > 0
        assert ours.create_causal_mask(config_of(implementation), torch.zeros(2, 3, 8), given_mask, None) is given_mask

    @shapes
    def test_a_boolean_one_is_turned_into_numbers_where_theirs_would_be_added_as_ones(
        self, shape: tuple[int, ...]
    ) -> None:
        given_mask = torch.randn(shape) > 0
        said = (config_of("eager"), torch.zeros(2, 3, 8, dtype=torch.float16), given_mask, None)
        found: Any = ours.create_causal_mask(*said)
        assert torch.equal(found == 0, given_mask)
        assert found[~given_mask].unique().tolist() == [torch.finfo(torch.float16).min]
        assert theirs.create_causal_mask(*said) is given_mask

    @shapes
    def test_a_boolean_one_becomes_a_block_mask(self, shape: tuple[int, ...]) -> None:
        given_mask = torch.randn(shape) > 0
        said = (config_of("flex_attention"), torch.zeros(2, 3, 8), given_mask, None)
        found: Any = ours.create_causal_mask(*said)
        batch, head, query, key = (torch.arange(size) for size in shape)
        verdict = found.mask_mod(batch[:, None, None, None], head[:, None, None], query[:, None], key)
        assert torch.equal(verdict.expand(shape), given_mask)
        assert found.shape == shape
        assert theirs.create_causal_mask(*said) is given_mask

    def test_a_boolean_one_is_turned_for_representations_of_headstock(self) -> None:
        given_mask = torch.randn(2, 1, 3, 5) > 0
        for implementation in ("additive", "dense", "causal_or_dense"):
            found: Any = ours.create_causal_mask(config_of(implementation), torch.zeros(2, 3, 8), given_mask, None)
            assert torch.equal(found == 0 if implementation == "additive" else found, given_mask)

    def test_integers_are_refused_where_theirs_would_be_added(self) -> None:
        said = (config_of("eager"), torch.zeros(1, 3, 8), torch.ones(1, 1, 3, 3, dtype=torch.int64), None)
        with pytest.raises(InvalidShape, match=r"must be boolean .* got torch.int64; convert zeros and ones with"):
            ours.create_causal_mask(*said)
        added: Any = theirs.create_causal_mask(*said)
        assert added.dtype == torch.int64

    def test_a_block_mask_and_masks_of_headstock_come_back(self) -> None:
        blocks = ours.flex_attention_mask(1, 3, 3)
        prepared = prepare(causal(), Geometry(1, 3, 3))
        for given_mask in (blocks, prepared):
            found: Any = ours.create_causal_mask(config_of("flex_attention"), torch.zeros(1, 3, 8), given_mask, None)
            assert found is given_mask
