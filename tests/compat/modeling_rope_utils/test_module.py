"""A rotary module written for transformers gives the same with the import changed."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers import modeling_rope_utils as theirs

from headstock.compat import modeling_rope_utils as ours

LONG = {"original_max_position_embeddings": 32, "factor": 4.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "yarn": LONG,
    "llama3": LONG | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "longrope": LONG | {"short_factor": [1.0] * 8, "long_factor": [1.0 + i for i in range(8)]},
    "proportional": {"partial_rotary_factor": 0.5},
    "dynamic": {"factor": 4.0},
}


def rotary_class(utilities: ModuleType) -> Callable[[Any], Any]:
    """The class as a user writes it, with what it imports from `utilities`."""

    class Rotary(nn.Module):
        inv_freq: Tensor

        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config
            self.rope_type = config.rope_parameters["rope_type"]
            self.max_seq_len_cached = self.original_max_seq_len = config.max_position_embeddings
            inv_freq, self.attention_scaling = utilities.ROPE_INIT_FUNCTIONS[self.rope_type](config, None)
            self.register_buffer("inv_freq", inv_freq, persistent=False)
            self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

        @utilities.dynamic_rope_update  # type: ignore[untyped-decorator]
        def forward(self, x: Tensor, position_ids: Tensor) -> Tensor:
            cosines: Tensor = (position_ids.unsqueeze(-1).float() * self.inv_freq).cos()
            factor: float = self.attention_scaling
            return cosines * factor

    return Rotary


@pytest.mark.parametrize("tokens", [16, 32, 33, 128, 200])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_module_gives_the_same_under_both_names(variant: str, tokens: int) -> None:
    parameters = VARIANTS[variant] | {"rope_type": variant, "rope_theta": 1e4}
    config = LlamaConfig(head_dim=16, max_position_embeddings=128, rope_parameters=parameters)
    x, position_ids = torch.zeros(1), torch.arange(tokens).unsqueeze(0)
    cosines = [rotary_class(each)(config)(x, position_ids) for each in (ours, theirs)]
    # Frequencies differ by 1e-6 at most, so angles at a position p by p * 1e-6, cosines by no more, times the factor.
    torch.testing.assert_close(cosines[0], cosines[1], rtol=0, atol=2e-6 * tokens)


def test_with_headstocks_decorator_a_longer_sequence_leaves_nothing_behind() -> None:
    parameters = VARIANTS["dynamic"] | {"rope_type": "dynamic", "rope_theta": 1e4}
    config = LlamaConfig(head_dim=16, max_position_embeddings=128, rope_parameters=parameters)
    x, short, long = torch.zeros(1), torch.arange(150).unsqueeze(0), torch.arange(400).unsqueeze(0)
    fresh, used = rotary_class(ours)(config), rotary_class(ours)(config)
    used(x, long)
    assert torch.equal(used(x, short), fresh(x, short))
