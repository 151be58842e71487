"""Coefficients from measurements: the ones of least relative error that are not negative."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.auto.costs import Cost, Terms

__all__ = ["fitted"]

_ROUNDS = 500
_TRUST = 0.5
"""How many samples the coefficients that hold already count for, after they were scaled to the machine."""


def fitted(samples: Sequence[tuple[Terms, float]], prior: Cost | None = None) -> Cost:
    """The coefficients that explain (terms, microseconds) best, and do not depart from `prior` without a reason.

    Each sample counts by its relative error. What `prior` says to cost nothing goes on doing so. Coordinate descent on
    a convex problem: it ends at the optimum.

    Example:
        >>> samples = [(Terms(products=float(n), first_call=0.0), 10.0 + 3.0 * n) for n in range(5)]
        >>> cost = fitted(samples)
        >>> round(cost.launch, 2), round(cost.products, 2)
        (10.0, 3.0)
    """
    times = torch.tensor([time for _, time in samples], dtype=torch.float64)
    matrix = torch.tensor([list(terms) for terms, _ in samples], dtype=torch.float64) / times[:, None]
    if prior is None:
        trust, wanted = 1e-9, 0.0
        scale = 1.0 / matrix.norm(dim=0).clamp(min=1e-12)
    else:
        trust, wanted = _TRUST, 1.0
        known = torch.tensor(list(prior), dtype=torch.float64)
        # The machine may be faster or slower throughout.
        scale = known / (matrix @ known).median().clamp(min=1e-12)
    solution = _least_squares(matrix * scale, trust=trust, wanted=wanted) * scale
    return Cost.of(round(each, 4) for each in solution.tolist())


def _least_squares(matrix: Float[Tensor, "samples terms"], *, trust: float, wanted: float) -> Float[Tensor, " terms"]:
    """The x >= 0 of least |matrix x - 1|^2 + trust |x - wanted|^2."""
    gram = matrix.T @ matrix + trust * torch.eye(matrix.shape[1], dtype=matrix.dtype)
    right = matrix.sum(0) + trust * wanted
    solution = torch.full_like(right, wanted)
    for _ in range(_ROUNDS):
        for place in range(len(solution)):
            own = float(gram[place, place])
            rest = right[place] - gram[place] @ solution + own * solution[place]
            solution[place] = max(0.0, float(rest) / own)
    return solution
