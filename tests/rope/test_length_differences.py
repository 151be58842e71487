"""Where transformers 5.23.0's frequencies depend on more than the length: both sides of what docs/rope.md lists."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS as THEIRS
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from headstock.rope import RopeInterface, RotaryEmbedding

FULL, SLIDING = "full_attention", "sliding_attention"
X = torch.zeros(1)


def by_length(
    config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None
) -> tuple[Tensor, float]:
    """A variant whose frequencies and factor say for which length they are."""
    length = 1 if seq_len is None else int(seq_len)
    return torch.full((8,), 1.0 / length, device=device), float(length)


@pytest.fixture
def theirs() -> Iterator[dict[str, Any]]:
    """transformers' table, as it was afterwards."""
    before = dict(THEIRS)
    yield THEIRS
    THEIRS.clear()
    THEIRS.update(before)


def config_of(rope_type: str) -> Any:
    own: dict[str, Any] = {"factor": 4.0} if rope_type == "dynamic" else {}
    parameters = {"rope_type": rope_type, "rope_theta": 1e4} | own
    return LlamaConfig(head_dim=16, max_position_embeddings=64, rope_parameters=parameters)


def positions(start: int, stop: int) -> Tensor:
    return torch.arange(start, stop).unsqueeze(0)


def cosines(module: Any, *calls: Tensor) -> Tensor:
    """The cosines of the last of these forwards."""
    found: Tensor = [module(X, each)[0] for each in calls][-1]
    return found


def test_dynamic_forgets_longer_sequences() -> None:
    short, long = positions(0, 100), positions(0, 200)
    config = config_of("dynamic")
    ours = [cosines(RotaryEmbedding(config), *calls) for calls in ([short], [long, short])]
    assert torch.equal(*ours)
    theirs = [cosines(LlamaRotaryEmbedding(config), *calls) for calls in ([short], [long, short])]
    assert (theirs[0] - theirs[1]).abs().max() > 1


def test_dynamic_rows_do_not_depend_on_each_other() -> None:
    alone, batch = positions(0, 100), torch.cat([positions(0, 100), positions(100, 200)])
    config = config_of("dynamic")
    ours = [cosines(RotaryEmbedding(config), each)[0] for each in (alone, batch)]
    assert torch.equal(*ours)
    theirs = [cosines(LlamaRotaryEmbedding(config), each)[0] for each in (alone, batch)]
    assert (theirs[0] - theirs[1]).abs().max() > 1


def test_dynamic_compiles_in_one_graph() -> None:
    config, short = config_of("dynamic"), positions(0, 100)
    compiled = torch.compile(RotaryEmbedding(config), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(X, short)[0], cosines(RotaryEmbedding(config), short), rtol=0, atol=0)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="Data-dependent branching"):
        cosines(torch.compile(LlamaRotaryEmbedding(config), fullgraph=True, backend="eager"), short)


def test_a_variant_need_not_be_called_dynamic_to_follow_the_length(theirs: dict[str, Any]) -> None:
    theirs["by_length"] = by_length
    local = RopeInterface()
    local["by_length"] = by_length
    config, hundred = config_of("by_length"), positions(0, 100)
    expected = 100 * torch.cos(torch.arange(100) / 100)
    ours = cosines(RotaryEmbedding(config, interface=local), hundred)[0, :, 0]
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    frozen = cosines(LlamaRotaryEmbedding(config), hundred)[0, :, 0]
    torch.testing.assert_close(frozen, torch.cos(torch.arange(100.0)), rtol=1e-5, atol=1e-5)  # of the length 1


def test_the_factor_of_a_layer_type_follows_the_length(theirs: dict[str, Any]) -> None:
    theirs["dynamic_by_length"] = by_length
    local = RopeInterface()
    local["dynamic_by_length"] = by_length
    sets = {FULL: {"rope_type": "dynamic_by_length", "rope_theta": 1e4}, SLIDING: {"rope_theta": 1e4}}
    config = Gemma3TextConfig(head_dim=16, max_position_embeddings=64, rope_parameters=sets)
    ours = RotaryEmbedding(config, layer_type=FULL, interface=local)(X, positions(0, 100))[0]
    assert ours[0, 0, 0] == 100  # the cosine of 0, times the factor
    module: Any = Gemma3RotaryEmbedding(config)
    assert module(X, positions(0, 100), FULL)[0][0, 0, 0] == 1  # it is kept under a name that nothing reads
    assert module.attention_scaling == 100
