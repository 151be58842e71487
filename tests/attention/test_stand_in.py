"""The layer that functions are given where there is none."""

import torch

from headstock.attention.call import Call
from headstock.attention.request import request_of
from headstock.attention.stand_in import StandIn

QUERY, KEY = torch.randn(1, 6, 5, 16), torch.randn(1, 2, 5, 16)


def test_it_has_what_functions_read_off_a_layer() -> None:
    sinks = torch.randn(6)
    stand_in = StandIn.of(Call(QUERY, KEY, KEY, None, request_of(16, scaling=None, sinks=sinks)))
    assert (stand_in.num_key_value_groups, stand_in.scaling, stand_in.head_dim) == (3, 0.25, 16)
    assert (stand_in.is_causal, stand_in.layer_idx, stand_in.config._attn_implementation) == (False, None, "headstock")
    assert stand_in.sinks is sinks


def test_it_trains_where_something_is_dropped() -> None:
    assert StandIn.of(Call(QUERY, KEY, KEY, None, request_of(16, scaling=None, dropout=0.1))).training
    assert not StandIn.of(Call(QUERY, KEY, KEY, None, request_of(16, scaling=None))).training
