"""How the next token is chosen from the scores of all: the likeliest, or drawn from what is left after cutting."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.errors import InvalidConfig

__all__ = ["Sampling"]

_COLDEST = 1e-5  # below, scores divided by it leave float32


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Greedy, or drawn: scores divided by the temperature, then the `top_k` likeliest, then the `top_p` nucleus.

    The order and the meaning are transformers'.

    Attributes:
        temperature: 0 takes the likeliest token; below 1 sharpens, above 1 flattens.
        top_k: keep the tokens that score no less than the k-th; None keeps all.
        top_p: of those, keep the fewest likeliest whose probabilities sum to at least p (Holtzman et al. 2020, section
            3.1); None keeps all.

    Raises:
        InvalidConfig: a value is impossible, or nothing is drawn that it could cut.

    Example:
        >>> sampling = Sampling(temperature=0.5, top_k=2)
        >>> sampling.filtered(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[-inf, 6., 4.]])
        >>> Sampling().choose(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([1])
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not (self.temperature == 0 or _COLDEST <= self.temperature < math.inf):
            raise InvalidConfig(
                f"Sampling.temperature must be 0 (greedy) or a number of at least {_COLDEST}, got {self.temperature!r}"
            )
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise InvalidConfig(f"Sampling.top_k must be None or a whole number of at least 1, got {self.top_k!r}")
        if self.top_p is not None and (not _is_number(self.top_p) or not 0 < self.top_p <= 1):
            raise InvalidConfig(f"Sampling.top_p must be None or a number above 0 and at most 1, got {self.top_p!r}")
        for name in ("top_k", "top_p"):
            if self.greedy and getattr(self, name) is not None:
                raise InvalidConfig(
                    f"Sampling.{name} must be None where the temperature is 0, which takes the likeliest token, got "
                    f"{getattr(self, name)}; a temperature above 0 draws"
                )

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    def choose(
        self, logits: Float[Tensor, "batch vocabulary"], generator: torch.Generator | None = None
    ) -> Int[Tensor, " batch"]:
        """One token for each row; `generator` None draws from torch's own."""
        if self.greedy:
            return logits.argmax(-1)
        return torch.multinomial(self.filtered(logits).softmax(-1), 1, generator=generator)[:, 0]

    def filtered(self, logits: Float[Tensor, "batch vocabulary"]) -> Float[Tensor, "batch vocabulary"]:
        """The scores that are drawn from, in float32; -inf for the tokens that are cut off."""
        if self.greedy:
            return logits.float()
        scores = logits.float() / self.temperature
        if self.top_k is not None:
            least = scores.topk(min(self.top_k, scores.shape[-1])).values[:, -1:]
            scores = scores.masked_fill(scores < least, -math.inf)
        return scores if self.top_p is None else _nucleus(scores, self.top_p)


def _nucleus(scores: Float[Tensor, "batch vocabulary"], top_p: float) -> Float[Tensor, "batch vocabulary"]:
    ascending, order = scores.sort(dim=-1)
    # A token is cut off when it and all less likely ones together leave top_p to the others.
    cut = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    cut[:, -1] = False  # the likeliest stays, whatever rounding says
    return scores.masked_fill(cut.scatter(-1, order, cut), -math.inf)


def _is_number(value: object) -> bool:
    return type(value) in {int, float}
