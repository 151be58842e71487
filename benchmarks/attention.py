"""Attention by name against torch's bare call and transformers' functions, and one function under two names."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward as _transformers_eager

from benchmarks.compare import Result, Settings, Target, agreeing, compared, interleaved
from headstock import ALL_ATTENTION_FUNCTIONS, AttentionInterface, attend
from headstock.attention import call_attention
from headstock.masks import Geometry, causal, padding, prepare

__all__ = ["run"]

Shape: TypeAlias = tuple[int, int, int, int]

# Five per cent is what the same call moves by between runs here.
SAME_COST = Target(1.05)
# Means of values near 1, in float32 and in different orders; a wrong mask is off by 0.1 and more.
TOLERANCE = 1e-4
_LAYER: Final[Any] = SimpleNamespace(is_causal=False, num_key_value_groups=1, training=False)
_CAUSAL_LAYER: Final[Any] = SimpleNamespace(is_causal=True, num_key_value_groups=1, training=False)
_GROUPED_LAYER: Final[Any] = SimpleNamespace(is_causal=False, num_key_value_groups=4, training=False)


def run(settings: Settings) -> list[Result]:
    """Tiny calls show what the way to the kernel costs, realistic ones what it matters."""
    tiny, realistic = (1, 4, 16, 16), (1, 2, 32, 8) if settings.tiny else (1, 12, 512, 64)
    long, keys = ((1, 2, 64, 8), 64) if settings.tiny else ((1, 4, 2048, 64), 8192)
    with torch.no_grad():
        return [
            *_full(settings, tiny),
            *_full(settings, realistic),
            *_causal(settings, tiny),
            *_causal(settings, long),
            *_padded(settings, realistic),
            *_eager(settings, tiny),
            *_eager(settings, realistic),
            *_decoding(settings, keys),
            *_renamed(settings, tiny),
            *_renamed(settings, realistic),
        ]


def _full(settings: Settings, shape: Shape) -> list[Result]:
    query, key, value = torch.randn(3, *shape)
    runs = {
        "attend, sdpa": lambda: attend(query, key, value, implementation="sdpa"),
        "F.sdpa": lambda: sdpa(query, key, value),
        "transformers sdpa": lambda: _transformers(_LAYER, query, key, value, None),
    }
    layer_runs = {
        "call_attention, sdpa": lambda: _called("sdpa", query, key, value),
        "transformers sdpa": lambda: _transformers(_LAYER, query, key, value, None),
    }
    return _raced(settings, "no mask", shape, runs) + _raced(settings, "no mask, in a layer", shape, layer_runs)


def _causal(settings: Settings, shape: Shape) -> list[Result]:
    """`mask=causal()` must reach the kernel as `is_causal`."""
    batch, heads, tokens, _ = shape
    query, key, value = torch.randn(3, *shape)
    lower = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    prepared = prepare(causal(), Geometry(batch, tokens, tokens, heads=heads))
    dense = {"F.sdpa, boolean mask": lambda: sdpa(query, key, value, attn_mask=lower)}
    others = {
        "F.sdpa, is_causal=True": lambda: sdpa(query, key, value, is_causal=True),
        "transformers sdpa": lambda: _transformers(_CAUSAL_LAYER, query, key, value, None),
    }
    fresh = {"attend, mask=causal()": lambda: attend(query, key, value, mask=causal(), implementation="sdpa")}
    kept = {"call_attention, prepared": lambda: _called("sdpa", query, key, value, prepared)}
    return _raced(settings, "causal", shape, fresh | others | dense) + _raced(settings, "causal", shape, kept | others)


def _padded(settings: Settings, shape: Shape) -> list[Result]:
    """What each layer of a model with a padded batch pays: the mask was made before."""
    rows, heads, tokens, _ = shape = (4, *shape[1:])
    query, key, value = torch.randn(3, *shape)
    keep = torch.arange(tokens) < torch.linspace(tokens // 2, tokens, rows).long()[:, None]
    prepared = prepare(causal() & padding(keep), Geometry(rows, tokens, tokens, heads=heads))
    dense = torch.ones(tokens, tokens, dtype=torch.bool).tril() & keep[:, None, None]
    runs = {
        "call_attention, prepared": lambda: _called("sdpa", query, key, value, prepared),
        "transformers sdpa": lambda: _transformers(_LAYER, query, key, value, dense),
    }
    return _raced(settings, "causal & padding", shape, runs)


def _eager(settings: Settings, shape: Shape) -> list[Result]:
    batch, heads, tokens, head_dim = shape
    query, key, value = torch.randn(3, *shape)
    prepared = prepare(causal(), Geometry(batch, tokens, tokens, heads=heads))
    additive, scaling = prepared.additive(torch.float32), head_dim**-0.5
    runs = {
        "call_attention, prepared": lambda: _called("eager", query, key, value, prepared),
        "transformers eager": lambda: _transformers_eager(_LAYER, query, key, value, additive, scaling=scaling)[0],
    }
    return _raced(settings, "eager, causal", shape, runs)


def _decoding(settings: Settings, keys: int) -> list[Result]:
    """One query over a long cache, 32 heads on 8."""
    query = torch.randn(1, 32, 1, 64)
    key, value = torch.randn(2, 1, 8, keys, 64)
    runs = {
        "attend, sdpa": lambda: attend(query, key, value, implementation="sdpa"),
        "F.sdpa, enable_gqa": lambda: sdpa(query, key, value, enable_gqa=True),
        "F.sdpa, keys repeated": lambda: sdpa(query, *(each.repeat_interleave(4, dim=1) for each in (key, value))),
        "transformers sdpa": lambda: _transformers(_GROUPED_LAYER, query, key, value, None),
    }
    return _raced(settings, f"decoding over {keys} keys, 32 heads on 8", (1, 32, 1, 64), runs)


def _renamed(settings: Settings, shape: Shape) -> list[Result]:
    """One function under the name that it has and under another; one is the other, so that longer is only steadier."""
    settings = dataclasses.replace(settings, seconds=5 * settings.seconds)
    query, key, value = torch.randn(3, *shape)
    table = AttentionInterface()
    table["transformers"] = sdpa_attention_forward
    results = []
    for name in ("sdpa", "eager", "transformers"):
        other = f"{name}, renamed"
        table[other] = table[name]
        names = (other, name)
        runs = {each: functools.partial(_called, each, query, key, value, table=table) for each in names}
        results += _raced(settings, f"{name} under two names", shape, runs, targets={name: SAME_COST})
    return results


def _called(name: str, *tensors: Any, table: AttentionInterface = ALL_ATTENTION_FUNCTIONS) -> Tensor:
    query, key, value, mask = tensors if len(tensors) == 4 else (*tensors, None)
    return call_attention(table, name, _LAYER, query, key, value, mask)[0]


def _transformers(*arguments: Any) -> Tensor:
    output: Tensor = sdpa_attention_forward(*arguments)[0]
    return output


def _raced(
    settings: Settings,
    case: str,
    shape: Shape,
    runs: Mapping[str, Callable[[], Any]],
    *,
    targets: Mapping[str, Target] | None = None,
) -> list[Result]:
    contestants = agreeing(runs, tolerance=TOLERANCE, form=lambda x: x if x.shape == shape else x.transpose(1, 2))
    samples = interleaved(contestants, settings)
    return compared("attention", f"{case}, {list(shape)}", samples, targets=targets)
