"""`bidirectional`: every key."""

import torch

from headstock.masks import Geometry, bidirectional, to_dense
from headstock.masks.patterns.bidirectional import Bidirectional
from headstock.masks.predicate import Band


def test_sees_everything() -> None:
    found = to_dense(bidirectional(), Geometry(batch_size=1, q_length=2, kv_length=4, kv_offset=3))
    assert torch.equal(found, torch.ones(1, 1, 2, 4, dtype=torch.bool))


def test_answers_in_the_form_of_its_index() -> None:
    assert bidirectional()(0, 0, 0, 5) is True
    assert torch.equal(bidirectional()(0, 0, torch.tensor(0), torch.tensor(5)), torch.tensor(True))


def test_is_the_whole_band_without_arguments() -> None:
    assert Bidirectional().band() == Band(None, None)
    assert Bidirectional().arguments() == {}
    assert repr(bidirectional()) == "bidirectional()"
