"""The step that all layers share: what the looked-up function is given."""

from typing import Any

from torch import Tensor

from headstock.models.attending import SelfAttention
from tests.support.models import ids, tiny_bert, tiny_gpt2


class Watching:
    """An attention function that keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        module: SelfAttention,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        *,
        scaling: float,
        dropout: float,
    ) -> tuple[Tensor, None]:
        self.calls.append({"module": module, "query": query, "mask": mask, "scaling": scaling, "dropout": dropout})
        return value.transpose(1, 2).clone(), None


def test_all_layers_share_one_prepared_mask() -> None:
    watching = Watching()
    model = tiny_gpt2()
    model.attention["eager"] = watching
    model(ids(2, 5))
    masks = [call["mask"] for call in watching.calls]
    assert len(masks) == 3
    assert all(mask is masks[0] for mask in masks)
    assert masks[0].shape == (1, 1, 5, 5)


def test_a_model_without_mask_hands_none_on() -> None:
    watching = Watching()
    model = tiny_bert()
    model.attention["eager"] = watching
    model(ids(2, 5))
    assert [call["mask"] for call in watching.calls] == [None, None, None]


def test_the_function_sees_the_layer_and_its_numbers() -> None:
    watching = Watching()
    model = tiny_bert(attention_probs_dropout_prob=0.25)
    model.attention["eager"] = watching
    model(ids(2, 5))
    model.train()(ids(2, 5))
    assert [call["dropout"] for call in watching.calls] == [0.0] * 3 + [0.25] * 3
    assert {call["scaling"] for call in watching.calls} == {6**-0.5}
    assert watching.calls[0]["query"].shape == (2, 4, 5, 6)
    modules = [call["module"] for call in watching.calls[:3]]
    assert [(each.layer_idx, each.is_causal, each.num_key_value_groups) for each in modules] == [
        (0, False, 1),
        (1, False, 1),
        (2, False, 1),
    ]
    assert all(each.config is model.config for each in modules)


def test_a_causal_model_says_so_to_its_function() -> None:
    watching = Watching()
    model = tiny_gpt2()
    model.attention["eager"] = watching
    model(ids(1, 4))
    assert all(call["module"].is_causal for call in watching.calls)


def test_pruning_updates_what_functions_read() -> None:
    model = tiny_bert()
    model.prune_heads({1: [2]})
    assert all(layer.attention.self.config is model.config for layer in model.layers)
