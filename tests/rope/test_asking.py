"""Questions of compiled code: a constant token each, an answer of the moment, and no owner kept alive."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.rope import asking


class Owner:
    answer = 1


def question(owner: Any, detail: str | None) -> tuple[int, str | None]:
    return owner.answer, detail


def other(owner: Any, detail: str | None) -> int:
    return -int(owner.answer)


def test_an_answer_is_that_of_the_moment() -> None:
    owner = Owner()
    token = asking.token(owner, question, "detail")
    assert getattr(asking, token) == (1, "detail")
    owner.answer = 2
    assert getattr(asking, token) == (2, "detail")


def test_a_question_has_one_token() -> None:
    owner, second = Owner(), Owner()
    asked = [(owner, question, None), (owner, question, "a"), (owner, other, None), (second, question, None)]
    assert len({asking.token(*each) for each in asked + asked}) == len(asked)


def test_an_owner_is_not_kept_alive() -> None:
    owner = Owner()
    token = asking.token(owner, question)
    del owner
    gc.collect()
    with pytest.raises(AttributeError, match=f"module 'headstock.rope.asking' has no attribute '{token}'"):
        getattr(asking, token)


def test_an_unknown_attribute_is_none() -> None:
    assert not hasattr(asking, "__path__")


def test_a_graph_is_guarded_by_the_answer() -> None:
    class Module(nn.Module):
        answer = 1

        def forward(self, x: Tensor) -> Tensor:
            answer, _ = getattr(asking, asking.token(self, question))
            return x.mul(answer)

    graphs = 0

    def backend(graph: Any, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph

    module = Module()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    for answer, so_far in ((1, 1), (1, 1), (5, 2), (1, 2)):
        module.answer = answer
        assert compiled(torch.ones(1)).item() == answer
        assert graphs == so_far
