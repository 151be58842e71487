"""Perplexity by its definition, lists of the right form."""

import math

import torch

from headstock.cli.demo.genera import END, FIRST_GENUS, GENERA, RANDOM_LISTS, START, lists, perplexity


def test_perplexity_is_the_inverse_geometric_mean_of_the_probabilities() -> None:
    logits = torch.randn(2, 4, 5, dtype=torch.float64)
    ids = torch.tensor([[0, 1, 2, 3], [4, 4, 0, 1]])
    for row in range(2):
        product = 1.0
        for place in range(3):
            weights = [math.exp(each) for each in logits[row, place].tolist()]
            product *= weights[int(ids[row, place + 1])] / sum(weights)
        # Fewer than 100 operations in float64.
        assert math.isclose(perplexity(logits, ids)[row].item(), product ** (-1 / 3), rel_tol=100 * 2**-52)


def test_a_uniform_guess_has_the_vocabularys_perplexity() -> None:
    found = perplexity(torch.zeros(1, 6, 11), torch.randint(11, (1, 6)))
    assert math.isclose(found.item(), 11, rel_tol=100 * 2**-52)


def test_lists_are_the_gut_and_random_genera_between_start_and_end() -> None:
    rows = lists(9669)
    assert rows.shape == (1 + RANDOM_LISTS, len(GENERA) + 2)
    assert rows[0, 1:-1].tolist() == list(GENERA.values())
    assert (rows[:, 0] == START).all()
    assert (rows[:, -1] == END).all()
    assert (rows[:, 1:-1] >= FIRST_GENUS).all()
    assert (rows < 9669).all()
    assert len({tuple(row) for row in rows.tolist()}) == 1 + RANDOM_LISTS
    assert torch.equal(rows, lists(9669))
