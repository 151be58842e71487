import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headstock.errors import InvalidConfig
from headstock.layers.checkpointing import set_gradient_checkpointing
from headstock.layers.checkpointing.policies import every_k, offload
from headstock.layers.checkpointing.policies.every_k import stack_of
from headstock.layers.checkpointing.policies.offload import OffloadedCheckpoint
from tests.support.checkpointing import Block, Encoder, EncoderDecoder


@given(layers=st.integers(1, 9), k=st.integers(1, 10))
def test_one_layer_in_k_counted_from_the_first(layers: int, k: int) -> None:
    report = set_gradient_checkpointing(Encoder(layers, width=1), "every_k", k=k)
    assert report.checkpointed == tuple(f"layers.{index}" for index in range(0, layers, k))
    assert len(report.plain) == layers - len(report.checkpointed)


def test_each_stack_and_each_model_counts_for_itself() -> None:
    for _ in range(2):
        report = set_gradient_checkpointing(EncoderDecoder(), "every_k", k=2)
        assert report.checkpointed == (
            *("encoder.layers.0", "encoder.layers.2"),
            *("decoder.layers.0", "decoder.layers.2"),
        )


def test_layers_inside_repeated_modules_count_by_the_repetition() -> None:
    blocks = nn.ModuleList([nn.ModuleDict({"attention": Block(), "mlp": Block()}) for _ in range(3)])
    assert set_gradient_checkpointing(blocks, "every_k", k=2).checkpointed == (
        *("0.attention", "0.mlp"),
        *("2.attention", "2.mlp"),
    )


def test_layers_without_an_index_are_counted_where_they_lie() -> None:
    model = nn.ModuleDict({"first": Block(), "second": Block(), "third": Block()})
    assert set_gradient_checkpointing(model, "every_k", k=2).checkpointed == ("first", "third")


@pytest.mark.parametrize(
    ("name", "stack"),
    [
        ("encoder.layers.3", "encoder.layers.*"),
        ("stages.1.blocks.0", "stages.1.blocks.*"),
        ("blocks.4.mlp", "blocks.*.mlp"),
        ("encoder.first", "encoder.*"),
        ("", "*"),
    ],
)
def test_the_last_index_of_a_name_is_the_counter(name: str, stack: str) -> None:
    assert stack_of(name) == stack


def test_another_policy_says_how() -> None:
    plan = every_k({"0": Block(), "1": Block()}, k=2, inner=offload)
    assert list(plan) == ["0"]
    assert isinstance(plan["0"], OffloadedCheckpoint)


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "2", None])
def test_a_wrong_distance_is_refused(k: object) -> None:
    with pytest.raises(InvalidConfig, match=f"k of every_k must be a positive integer, got {k!r}; 1 checkpoints every"):
        set_gradient_checkpointing(Encoder(), "every_k", k=k)
