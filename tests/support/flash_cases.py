"""Random calls for kernels over tokens: masks that packed sequences can mostly say, beside float64 answers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import AttentionInterface, attend
from headstock.attention.contract import AttentionFunction, AttentionOutput
from headstock.attention.flash.core import flash_entry, flash_limits
from headstock.masks import Geometry, Mask, prepare, to_dense
from tests.support.attention import Computed, Inputs, assert_within, attention_loop, bounds, gradients, upstream_of
from tests.support.blocked import of_rounded_output
from tests.support.packing import packables

__all__ = ["TokenCase", "check", "entry_on_cpu", "interface_of", "token_cases"]


_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class TokenCase:
    """One call, with its mask as patterns."""

    inputs: Inputs
    mask: Mask | None
    geometry: Geometry

    def keywords(self) -> dict[str, Any]:
        """The keywords of `attend`."""
        mask = None if self.mask is None else prepare(self.mask, self.geometry)
        return {"mask": mask, "scaling": self.inputs.scaling, "softcap": self.inputs.softcap}


@st.composite
def token_cases(
    draw: st.DrawFn, *, features: tuple[str, ...] = ("sinks", "softcap"), dtypes: tuple[torch.dtype, ...] = _DTYPES
) -> TokenCase:
    """A call in a dtype that kernels take, or in float32, in which a stand-in computes too."""
    drawn, geometry = draw(packables())
    mask = drawn if draw(st.integers(0, 7)) else None
    kv_heads, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    head_dim, value_dim = draw(st.sampled_from([(8, 8), (5, 5), (8, 3), (3, 11), (16, 16)]))
    batch, queries, keys = geometry.batch_size, geometry.q_length, geometry.kv_length
    heads = kv_heads * groups
    dtype = draw(st.sampled_from(dtypes))
    visible = torch.ones(batch, heads, queries, keys, dtype=torch.bool)
    if mask is not None:
        visible = to_dense(mask, replace(geometry, heads=1)).expand(visible.shape)
    inputs = Inputs(
        query=_laid_out(draw, (batch, heads, queries, head_dim)).to(dtype),
        key=_laid_out(draw, (batch, kv_heads, keys, head_dim)).to(dtype),
        value=_laid_out(draw, (batch, kv_heads, keys, value_dim)).to(dtype),
        visible=visible,
        scaling=draw(st.sampled_from([head_dim**-0.5, 1.0, -0.3, 0.0])),
        softcap=draw(st.sampled_from([None, 0.5, 30.0])) if "softcap" in features else None,
        sinks=torch.randn(heads).to(dtype) if "sinks" in features and draw(st.booleans()) else None,
    )
    return TokenCase(inputs, mask, replace(geometry, heads=heads))


def _laid_out(draw: st.DrawFn, shape: tuple[int, int, int, int]) -> Tensor:
    batch, heads, length, size = shape
    layout = draw(st.sampled_from(["contiguous", "heads behind length", "every other"]))
    if layout == "heads behind length":
        return torch.randn(batch, length, heads, size).transpose(1, 2)
    if layout == "every other":
        return torch.randn(batch, heads, length, 2 * size)[..., ::2]
    return torch.randn(shape)


def entry_on_cpu(generation: int) -> AttentionFunction:
    """The entry of one generation without the limits that a stand-in on the CPU does not have."""
    limits = replace(flash_limits(generation), devices=None, compute_capability=None, dtypes=None)
    return flash_entry(generation, limits=limits)


def interface_of(name: str, entry: AttentionFunction) -> AttentionInterface:
    """A table in which `name` is that entry."""
    interface = AttentionInterface()
    interface[name] = entry
    return interface


def check(
    case: TokenCase,
    name: str,
    interface: Mapping[str, AttentionFunction],
    *,
    learns: bool,
    asks: bool,
    device: str = "cpu",
) -> None:
    """The results of the entry are those of the formula, and its gradients where it `learns`.

    `asks`: for the log-sum-exp too.
    """
    leaves = {key: leaf.detach().to(device).requires_grad_(learns) for key, leaf in case.inputs.leaves().items()}
    found = attend(
        leaves["query"],
        leaves["key"],
        leaves["value"],
        sinks=leaves.get("sinks"),
        implementation=name,
        return_lse=asks,
        interface=interface,
        **case.keywords(),
    )
    inputs = case.inputs.exact()
    upstream, exact, dtype = upstream_of(inputs), attention_loop(inputs), case.inputs.query.dtype
    allowed, of_gradients = bounds(inputs, exact, upstream, dtype)
    output = (found.output if isinstance(found, AttentionOutput) else found).cpu()
    assert output.dtype == dtype
    assert_within(output, exact.output, allowed.output, "output")
    log_sum_exp = torch.zeros(output.shape[:3])
    if isinstance(found, AttentionOutput):
        assert found.log_sum_exp is not None
        log_sum_exp = found.log_sum_exp.cpu()
        assert_within(log_sum_exp, exact.log_sum_exp, allowed.log_sum_exp, "log_sum_exp")
    else:
        upstream = upstream._replace(log_sum_exp=torch.zeros_like(upstream.log_sum_exp))
    if learns:
        expected = gradients(exact, inputs.leaves(), upstream)
        further = of_rounded_output(inputs, exact, upstream, dtype)
        for key, gradient in gradients(Computed(output, log_sum_exp, output), leaves, upstream).items():
            assert_within(
                gradient.cpu(), expected[key], (of_gradients[key] + further[key]).detach(), f"gradient of {key}"
            )
