"""Long inputs through a model of transformers with a window, headstock's attention against its own sdpa.

Two layers of Mistral: hidden 512, intermediate 1,024, 8 heads over 2, window 512, float32; the whole forward, and a
training step. Each run has a process of its own, so that its peak of memory is its own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.compare import Result, Settings, Target, compared
from benchmarks.memory import memory

__all__ = ["figures", "measured", "model_of", "run"]

Pass = Literal["forward", "training"]
THREADS = 2
WINDOW = 512
SLOW_PAIRS = 3  # of what takes seconds
_ROOT = Path(__file__).parent.parent
_OURS, _THEIRS = "headstock", "sdpa"


def run(settings: Settings) -> list[Result]:
    """Time and growth of memory at 16,384 tokens, a training step at 8,192, and how 65,536 tokens run."""
    tokens, trained, window = (256, 128, 32) if settings.tiny else (16_384, 8192, WINDOW)
    pairs, measure = (1, figures) if settings.tiny else (min(settings.pairs, SLOW_PAIRS), measured)
    forward: dict[str, list[dict[str, float]]] = {name: [] for name in (_OURS, _THEIRS)}
    training: dict[str, list[dict[str, float]]] = {name: [] for name in (_OURS, _THEIRS)}
    longer = []
    for _ in range(pairs):
        for name in (_OURS, _THEIRS):
            forward[name].append(measure(name, "forward", tokens, window))
            training[name].append(measure(name, "training", trained, window))
        longer.append(measure(_OURS, "forward", 4 * tokens, window))
    case = f"Mistral, window {window}, {tokens:,} tokens"
    ours_long, four_times = f"{_OURS}, {4 * tokens:,} tokens", f"4 x {tokens:,} tokens"
    seconds = {name: [each["seconds"] for each in found] for name, found in forward.items()}
    bytes_ = {name: [each["bytes"] for each in found] for name, found in forward.items()}
    steps = {name: [each["seconds"] for each in found] for name, found in training.items()}
    grown = {ours_long: [each["seconds"] for each in longer], four_times: [4 * each for each in seconds[_OURS]]}
    said: dict[str, Any] = {"threads": THREADS}
    return [
        *compared("long_context", f"{case}, forward", seconds, targets={_THEIRS: Target(1 / 6)}, **said),
        *compared("long_context", f"{case}, memory", bytes_, targets={_THEIRS: Target(1 / 4)}, unit="B", **said),
        *compared(
            "long_context",
            f"Mistral, window {window}, {trained:,} tokens, training step",
            steps,
            targets={_THEIRS: Target(1 / 3)},
            **said,
        ),
        *compared("long_context", f"Mistral, window {window}, four times the tokens", grown, **said),
    ]


def measured(implementation: str, kind: Pass, tokens: int, window: int) -> dict[str, float]:
    """Seconds of one pass after a short one, and the bytes by which it raised the peak of its process."""
    command = [sys.executable, "-m", __name__, implementation, kind, str(tokens), str(window)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_ROOT, env={**os.environ})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def model_of(implementation: str, window: int) -> Any:
    """The model, with the same random weights at every call."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=1024,
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=131_072,
        sliding_window=window,
        pad_token_id=0,
    )
    return MistralForCausalLM._from_config(config, attn_implementation=implementation)


def _pass(model: Any, kind: Pass, tokens: int) -> None:
    ids = torch.randint(1, 1024, (1, tokens), generator=torch.Generator().manual_seed(1))
    if kind == "training":
        model(ids, labels=ids, use_cache=False).loss.backward()
        return
    with torch.no_grad():
        model(ids, use_cache=False, logits_to_keep=1)


def figures(implementation: str, kind: Pass, tokens: int, window: int) -> dict[str, float]:
    """What `measured` reports, of this process."""
    from headstock.integrations.transformers import install, installed, uninstall

    before_all = installed()
    install()
    try:
        return _figures(implementation, kind, tokens, window)
    finally:
        if not before_all:
            uninstall()


def _figures(implementation: str, kind: Pass, tokens: int, window: int) -> dict[str, float]:
    model = model_of(implementation, window).train(kind == "training")
    _pass(model, kind, 2 * window)  # loads what is loaded once
    model.zero_grad(set_to_none=True)
    before, started = memory("VmRSS"), time.perf_counter()
    _pass(model, kind, tokens)
    ended = time.perf_counter()
    return {"seconds": ended - started, "bytes": float(max(memory("VmHWM") - before, 1))}


def main(implementation: str, kind: Pass, tokens: int, window: int) -> None:
    """Print the figures of one run as JSON."""
    torch.set_num_threads(THREADS)
    print(json.dumps(figures(implementation, kind, tokens, window)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))  # type: ignore[arg-type]  # as `measured` says
