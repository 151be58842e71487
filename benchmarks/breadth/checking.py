"""One architecture with one implementation, set against the same weights with eager attention."""

from collections import Counter
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.breadth.cases import Case
from benchmarks.breadth.counting import counted
from benchmarks.breadth.sizes import tiny_config
from headstock.integrations.transformers import uses_attention_interface

__all__ = ["TOLERANCE", "Verdict", "check"]

TOLERANCE = 1e-4
_TOKENS, _PADDED, _STEPS, _LOWEST = 13, 5, 3, 4

Outcome = Literal["equal", "wrong", "refused", "never called", "not built", "eager fails"]


class Verdict(NamedTuple):
    """What came out: the largest error relative to the largest logit, the layers called, or why not."""

    outcome: Outcome
    error: float = 0.0
    layers: int = 0
    reason: str = ""


class _Ran(NamedTuple):
    logits: list[Tensor]
    calls: Counter[int]


def check(case: Case, implementation: str) -> Verdict:
    """Logits of a left-padded batch longer than the window, then of three tokens decoded from the cache."""
    import transformers

    if not uses_attention_interface(getattr(transformers, case.model)):
        return Verdict("never called", reason="has attention of its own, or none")
    try:
        reference = _built(case, "eager")
    except Exception as error:  # noqa: BLE001 - whatever an architecture needs, the table says it
        return Verdict("not built", reason=_told(error))
    try:
        expected = _run(case, reference, "eager", [])
    except Exception as error:  # noqa: BLE001
        return Verdict("eager fails", reason=_told(error))
    if not expected.calls:
        return Verdict("never called", reason="no layer asks the interface")
    try:
        model = _built(case, implementation)
        model.load_state_dict(reference.state_dict())
        found = _run(case, model, implementation, expected.logits)
    except Exception as error:  # noqa: BLE001
        return Verdict("refused", reason=_told(error))
    return _verdict(expected, found)


def _verdict(expected: _Ran, found: _Ran) -> Verdict:
    layers = len(expected.calls)
    if sorted(found.calls.values()) != sorted(expected.calls.values()):
        return Verdict("wrong", layers=len(found.calls), reason=f"called for {len(found.calls)} of {layers} layers")
    errors = []
    for one, other in zip(expected.logits, found.logits, strict=True):
        if not bool(one.isfinite().all()) or not bool(other.isfinite().all()):
            return Verdict("wrong", float("nan"), layers, "not finite")
        errors.append(float((one - other).abs().max() / one.abs().max()))
    error = max(errors)
    return Verdict("equal" if error <= TOLERANCE else "wrong", error, layers)


def _built(case: Case, implementation: str) -> Any:
    import transformers

    torch.manual_seed(0)
    model_class = getattr(transformers, case.model)
    config = tiny_config(case.kind, case.task, model_class)
    model = model_class._from_config(config, attn_implementation=implementation).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 or "sink" in name:
                # The scale that keeps variances: of transformers' own, 0.02, nothing but the residual is left.
                spread = parameter.shape[-1] ** -0.5 if parameter.ndim >= 2 else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def _run(case: Case, model: Any, implementation: str, guide: list[Tensor]) -> _Ran:
    """Logits of the batch and of the steps after it; `guide` tells which tokens are decoded, else its own do."""
    with torch.no_grad(), counted(implementation) as calls:
        logits = {"causal": _causal, "masked": _masked, "seq2seq": _seq2seq}[case.task](model, guide)
    return _Ran(logits, calls)


def _batch(length: int = _TOKENS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(_LOWEST, 60, (2, length), generator=generator)
    keep = torch.ones_like(ids)
    keep[1, :_PADDED] = 0
    return ids.masked_fill(keep == 0, 0), keep


def _masked(model: Any, _guide: list[Tensor]) -> list[Tensor]:
    ids, keep = _batch()
    return [model(input_ids=ids, attention_mask=keep).logits[keep.bool()]]


def _causal(model: Any, guide: list[Tensor]) -> list[Tensor]:
    ids, keep = _batch()
    out = model(input_ids=ids, attention_mask=keep, use_cache=True)
    logits, last = [out.logits[keep.bool()]], out.logits[:, -1]
    for step in range(_STEPS):
        token = _next(guide[step] if guide else logits[step], last)
        keep = torch.cat([keep, torch.ones(2, 1, dtype=keep.dtype)], 1)
        out = model(input_ids=token, attention_mask=keep, past_key_values=out.past_key_values, use_cache=True)
        last = out.logits[:, -1]
        logits.append(last)
    return logits


def _next(logits: Tensor, last: Tensor) -> Tensor:
    """The most probable tokens after both rows, by the logits of the reference: the last row of each."""
    rows = logits if logits.shape[0] == last.shape[0] else torch.stack([logits[_TOKENS - 1], logits[-1]])
    return rows.argmax(-1, keepdim=True)


def _seq2seq(model: Any, guide: list[Tensor]) -> list[Tensor]:
    ids, keep = _batch()
    said = {"input_ids": ids, "attention_mask": keep}
    if model.main_input_name == "input_features":
        config = model.config
        frames = 2 * config.max_source_positions
        said = {
            "input_features": torch.randn(2, config.num_mel_bins, frames, generator=torch.Generator().manual_seed(3))
        }
    begun = ids[:, -6:]
    out = model(**said, decoder_input_ids=begun)
    logits = [out.logits]
    for step in range(_STEPS):
        token = (guide[step] if guide else logits[step])[:, -1].argmax(-1, keepdim=True)
        out = model(**said, decoder_input_ids=token, past_key_values=out.past_key_values)
        logits.append(out.logits)
    return logits


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
