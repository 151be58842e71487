"""Use an installed headstock: `python -I smoke.py ENVIRONMENT`, from a folder without the source."""

import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

import headstock
from headstock import AttentionInterface, attend
from headstock.caches import GrowingCache
from headstock.layers import ALL_LAYERS
from headstock.masks import causal
from headstock.rope import RopeParameters

environment = Path(sys.argv[1]).resolve()
query, key, value = (torch.randn(2, 4, 8, 16) for _ in range(3))


def expect(holds: bool, what: str) -> None:
    """Say what was found, and stop at the first thing that does not hold."""
    print(f"{'ok' if holds else 'FAILED'}: {what}")
    if not holds:
        raise SystemExit(1)


@AttentionInterface.register("first_value")
def first_value(
    module: object, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **keywords: object
) -> tuple[Tensor, None]:
    """The first key's value at every query."""
    return value[:, :, :1].expand_as(query).transpose(1, 2), None


expect(Path(headstock.__file__).is_relative_to(environment), f"imported from the environment: {headstock.__file__}")
expect(version("headstock") == headstock.__version__, f"version {headstock.__version__}")
expect(files("headstock").joinpath("py.typed").is_file(), "py.typed is installed")
expect("Conv1D" in ALL_LAYERS, "layers are in their table")
results = {name: attend(query, key, value, mask=causal(), implementation=name) for name in ("eager", "sdpa", "auto")}
for name, result in results.items():
    # Sums of 16 products and of 8 weighted values, in float32: 64 roundings leave room for any order of them.
    bound = 64 * torch.finfo(torch.float32).eps * float(value.abs().max())
    deviation = float((result - results["eager"]).abs().max())
    expect(deviation <= bound, f"{name} deviates from eager by {deviation:.1e}, at most {bound:.1e}")
own = attend(query, key, value, mask=causal(), implementation="first_value")
expect(torch.equal(own, value[:, :, :1].expand_as(query)), "a registered function runs by its name")
cache = GrowingCache()
halves = [cache.update(0, key[:, :, part], value[:, :, part]) for part in (slice(5), slice(5, None))]
expect(torch.equal(halves[1][0], key) and torch.equal(halves[1][1], value), "a cache gives back what went in")
rope = RopeParameters.from_config({"rope_theta": 100.0, "head_dim": 4, "max_position_embeddings": 8})
expect(torch.allclose(rope.frequencies()[0], torch.tensor([1.0, 0.1])), "RoPE's frequencies are powers of its base")
script = subprocess.run([environment / "bin" / "headstock"], capture_output=True, text=True, check=False)
expect(script.returncode == 1, "the command without its extra exits with 1")
expect("headstock[cli]" in script.stderr and "Traceback" not in script.stderr, f"and says: {script.stderr.strip()}")
