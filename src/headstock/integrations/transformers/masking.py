"""The mask function that transformers calls once per forward and kind of layer."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from headstock.errors import InvalidShape
from headstock.integrations.transformers.carrier import MaskCarrier
from headstock.integrations.transformers.reading import mask_of_function
from headstock.masks import Geometry, Mask, causal, to_dense
from headstock.masks.contract import Predicate
from headstock.masks.given import Given
from headstock.masks.predicate import Conjunction, Disjunction, Pattern
from headstock.masks.tracing import is_known, is_readable

__all__ = ["TENSORS", "mask_function"]

#: Models that compute with their mask before they hand it on: doge hides more keys in it, deepseek_v4 adds columns, of
#: numbers, for the keys that its compressor makes, bigbird_pegasus adds it itself where it looks at blocks.
TENSORS: Mapping[str, Literal["additive", "dense"]] = {
    "bigbird_pegasus": "additive",
    "deepseek_v4": "additive",
    "doge": "dense",
}


def mask_function(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Int[Tensor, "..."] = 0,
    kv_offset: int | Int[Tensor, "..."] = 0,
    mask_function: Predicate | None = None,
    attention_mask: Any = None,
    *,
    config: Any = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    **_options: Any,
) -> MaskCarrier | Tensor:
    """The mask of one forward, for headstock's attention functions.

    Never None: what a model means by no mask is not left to be guessed. No tensor of all pairs is made, but for the
    models of `TENSORS`, which compute with their mask. The other keywords of transformers say when a mask may be left
    out.

    Args:
        batch_size: number of batch rows.
        q_length: number of queries.
        kv_length: number of keys.
        q_offset: index of the first query; a tensor where a static cache counts.
        kv_offset: index of the first key.
        mask_function: what may attend to what, transformers' closures or any function of four indices; None: causal.
        attention_mask: padding, `[batch, keys]`, zero hides, and columns that it lacks hide; or a mask that was made
            here before, which is returned as it is.
        config: whose mask it is.
        device: where the mask lies.
        dtype: of a mask that is to be added, where the model needs one.

    Raises:
        InvalidShape: the padding has other dimensions, or the mask made before is of another extent.
    """
    geometry = Geometry(batch_size, q_length, kv_length, _offset(q_offset), _offset(kv_offset))
    if isinstance(attention_mask, MaskCarrier):
        return _again(attention_mask, geometry)
    keep = None if attention_mask is None else _keep(attention_mask, geometry)
    mask = causal() if mask_function is None else _mask(mask_function, geometry)
    carrier = MaskCarrier(
        mask,
        None if keep is None or _hides_none(keep, mask, geometry) else keep,
        geometry,
        torch.device(device),
        model=str(getattr(config, "model_type", "a model")),
        may_be_sliced=hasattr(config, "index_topk"),
    )
    if carrier.model in TENSORS:
        return carrier.tensor(TENSORS[carrier.model], dtype)
    if isinstance(q_offset, Tensor) and q_length == 1:
        # A step of decoding from a static cache, which transformers compiles: the offset changes in every step.
        return carrier.made_dense(_heads(config))
    return carrier


def _heads(config: Any) -> int:
    return int(getattr(config, "num_attention_heads", 1))


def _again(carrier: MaskCarrier, geometry: Geometry) -> MaskCarrier:
    if carrier.geometry.shape != geometry.shape:
        raise InvalidShape(
            f"a mask that was made before must be of this forward's extent, [batch, 1, queries, keys] "
            f"{list(geometry.shape)}, got {list(carrier.shape)}; pass the padding mask [batch, keys]"
        )
    return carrier


def _offset(offset: int | Tensor) -> int | Tensor:
    """The number that a static cache's offset is now, where it may be read."""
    return int(offset) if isinstance(offset, Tensor) and offset.ndim == 0 and is_readable(offset) else offset


def _keep(attention_mask: Any, geometry: Geometry) -> Bool[Tensor, "rows keys"]:
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2:
        came = list(attention_mask.shape) if isinstance(attention_mask, Tensor) else type(attention_mask).__name__
        raise InvalidShape(
            f"attention_mask must be padding [batch, keys] or a tensor [batch, heads, queries, keys], got {came}; give "
            "it a dimension of size 1 for what it does not tell apart"
        )
    keep = attention_mask.to(torch.bool)
    end = geometry.kv_length + (0 if isinstance(geometry.kv_offset, Tensor) else geometry.kv_offset)
    missing = end - keep.shape[1]
    return functional.pad(keep, (0, missing)) if is_known(missing > 0) else keep


def _mask(function: Predicate, geometry: Geometry) -> Mask:
    mask = mask_of_function(function)
    if mask is not None:
        return mask
    mask = Mask(function)
    if not torch.compiler.is_compiling():
        return mask
    # An operator, which plans while a graph runs, can be given tensors and no function.
    return Mask(Given(to_dense(mask, geometry), geometry))


def _hides_none(keep: Bool[Tensor, "rows keys"], mask: Mask, geometry: Geometry) -> bool:
    """Whether every key that some query might see is surely kept, as far as values may be read."""
    first = geometry.kv_offset
    if not is_readable(keep) or isinstance(first, Tensor):
        return False
    end = first + geometry.kv_length
    last = _last_seen(mask.predicate, geometry)
    if last is not None:
        end = min(end, last + 1)
    return bool(keep[:, first:end].all())


def _last_seen(predicate: Predicate, geometry: Geometry) -> int | None:
    """An index beyond which no query sees a key, where structure tells."""
    upper = _upper(predicate)
    if upper is None or isinstance(geometry.q_offset, Tensor):
        return None
    return geometry.q_offset + geometry.q_length - 1 + upper


def _upper(predicate: Predicate) -> int | None:
    if isinstance(predicate, Conjunction | Disjunction):
        uppers = [_upper(each) for each in predicate.operands]
        known = [each for each in uppers if each is not None]
        if isinstance(predicate, Disjunction):
            return max(known) if len(known) == len(uppers) else None
        return min(known, default=None)
    band = predicate.band() if isinstance(predicate, Pattern) else None
    return None if band is None else band.upper
