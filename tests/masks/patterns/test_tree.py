"""`tree`: a token and its ancestors."""

from typing import Any

import pytest
import torch

from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Geometry, causal, to_dense, tree


def test_sees_itself_and_its_ancestors() -> None:
    found = to_dense(tree(torch.tensor([-1, 0, 0, 1, -1])), Geometry(1, 5, 5))[0, 0]
    assert found.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_parents_may_come_after_their_children() -> None:
    assert to_dense(tree(torch.tensor([2, 0, -1])), Geometry(1, 3, 3))[0, 0].int().tolist() == [
        [1, 0, 1],
        [1, 1, 1],
        [0, 0, 1],
    ]


def test_a_chain_longer_than_any_recursion_is_causal() -> None:
    chain = tree(torch.arange(-1, 4999))
    geometry = Geometry(1, 3, 5000, q_offset=4997)
    assert to_dense(chain, geometry).equal(to_dense(causal(), geometry))


def test_rows_may_have_trees_of_their_own() -> None:
    found = to_dense(tree(torch.tensor([[-1, 0], [-1, -1]])), Geometry(2, 2, 2))
    assert found.int().tolist() == [[[[1, 0], [1, 1]]], [[[1, 0], [0, 1]]]]


@pytest.mark.parametrize(
    ("parents", "error", "text"),
    [
        (
            [-1],
            InvalidShape,
            r"tree's parents must be a tensor, got list; pass parents as an integer tensor \[tokens\]",
        ),
        (torch.tensor([0.0]), InvalidShape, "tree's parents must be integer, got torch.float32; pass parents"),
        (torch.tensor(-1), InvalidShape, r"tree's parents must have two dimensions, got \[\]; pass parents"),
        (torch.tensor([-1, 2]), InvalidConfig, r"tree's parents must be tokens 0\.\.1 or -1, got 2; pass parents"),
        (torch.tensor([-2]), InvalidConfig, r"tree's parents must be tokens 0\.\.0 or -1, got -2; pass parents"),
        (torch.tensor([-1, 2, 1]), InvalidConfig, "parents must lead to a root, got a circle through token 1; pass"),
    ],
)
def test_what_is_no_tree_is_refused(parents: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        tree(parents)


@pytest.mark.parametrize(
    ("geometry", "text"),
    [
        (Geometry(3, 1, 2), "tree's parents must have one row for each of 3 batch rows, got 2; give it the batch"),
        (Geometry(2, 1, 3), "tree's parents must cover the keys up to index 2, got 2 positions; give it one"),
    ],
)
def test_a_geometry_that_is_not_covered_is_refused(geometry: Geometry, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        to_dense(tree(torch.tensor([[-1, 0], [-1, -1]])), geometry)
