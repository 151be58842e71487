"""`RotaryEmbedding`: cosines and sines for positions, as a function of positions and lengths and nothing else."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from headstock.errors import InvalidShape
from headstock.registry import Link
from headstock.rope.contract import RopeFunction
from headstock.rope.variant import Variant, ask, known_variant, variant_of

if TYPE_CHECKING:  # pydantic, which is loaded with the first module and not with this file
    from headstock.rope.parameters import RopeParameters

__all__ = ["RotaryEmbedding"]


class RotaryEmbedding(nn.Module):
    """Cosines and sines of rotary position embedding for any variant of the table (Su et al., 2021).

    `forward` writes nothing, so threads may share one module, and a row's result does not depend on the other rows.
    The variant's function is looked up at every forward: an entry put into `interface` later, or a scope, is honoured,
    in compiled code too.

    Attributes:
        inv_freq: the frequencies where they do not depend on the length, `[rotary_dim // 2]`, else None. It is no part
            of the state, stays float32 when the module's dtype changes, and is computed when it leaves the meta device.
        attention_scaling: the factor on cosines and sines that goes with it.

    Args:
        config: a configuration, a mapping or an object, or `RopeParameters`.
        layer_type: which layers, where the configuration tells them apart.
        interface: the table of variants, `ROPE_INIT_FUNCTIONS` by default.
        device: where the frequencies are computed.
        strict: whether doubts about the configuration are errors.

    Raises:
        InvalidConfig: the configuration states no valid parameters for these layers.
        UnknownName: the table has no variant of that name.

    Example:
        >>> rotary = RotaryEmbedding({"head_dim": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}})
        >>> cos, sin = rotary(torch.empty(0), torch.tensor([[0, 1]]))
        >>> cos.shape, sin[0, 1]
        (torch.Size([1, 2, 4]), tensor([0.8415, 0.0998, 0.8415, 0.0998]))
    """

    inv_freq: Tensor | None

    def __init__(
        self,
        config: Any,
        *,
        layer_type: str | None = None,
        interface: Link[RopeFunction] | None = None,
        device: torch.device | str | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        from headstock.rope.parameters import RopeParameters
        from headstock.rope.table import ROPE_INIT_FUNCTIONS

        self.config, self.layer_type = config, layer_type
        self.interface = ROPE_INIT_FUNCTIONS if interface is None else interface
        parameters = RopeParameters.from_config(config, layer_type, strict=strict, interface=self.interface)
        self.rope_type = parameters.rope_type
        self._own = variant_of(self.interface[self.rope_type], config, layer_type, parameters)
        self.attention_scaling: float | Tensor = 1.0
        self.register_buffer("inv_freq", None, persistent=False)
        self._compute(device)

    @property
    def rope_parameters(self) -> "RopeParameters":
        """The parameters, as they were read."""
        return self._own.parameters

    def forward(
        self,
        x: Float[Tensor, "..."],
        position_ids: Num[Tensor, "*axes rows tokens"],
        *,
        seq_len: int | Int[Tensor, "*lengths"] | None = None,
    ) -> tuple[Float[Tensor, "rows tokens rotary_dim"], Float[Tensor, "rows tokens rotary_dim"]]:
        """Cosines and sines of all angles, twice, half after half; computed in float32, in the dtype of `x`.

        Args:
            x: tells dtype and device.
            position_ids: `[rows, tokens]`; for positions on several axes one of these per axis.
            seq_len: the length that frequencies are for, or one per row. By default each row's own: its largest
                position and one. With a cache, give the length that the sequence will reach, since keys keep the
                frequencies that they were rotated with.

        Raises:
            InvalidShape: positions or lengths have a shape that the variant does not take.
        """
        if position_ids.dim() < 2:
            raise InvalidShape(
                f"position_ids must be [rows, tokens], got shape {tuple(position_ids.shape)}; unsqueeze one row"
            )
        variant, own = ask(self, _found)
        inv_freq, factor = self._frequencies(variant, own, position_ids, seq_len)
        angles = variant.parameters.angles(position_ids, inv_freq)
        if isinstance(factor, Tensor):
            factor = factor.to(angles.device).view(-1, 1, 1)
        cos, sin = ((part * factor).to(device=x.device, dtype=x.dtype) for part in (angles.cos(), angles.sin()))
        return torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)

    def extra_repr(self) -> str:
        """The parameters, and the kind of layer where there is one."""
        kind = "" if self.layer_type is None else f", layer_type={self.layer_type!r}"
        return f"{self._own.parameters!r}{kind}"

    def _frequencies(
        self, variant: Variant, own: bool, position_ids: Tensor, seq_len: int | Tensor | None
    ) -> tuple[Tensor, float | Tensor]:
        device = position_ids.device
        if not variant.depends_on_length:
            if own and self.inv_freq is not None:
                return self.inv_freq.to(device), self.attention_scaling
            return variant.parameters.frequencies(device=device)
        lengths = _lengths(position_ids, seq_len)
        if variant.takes_rows or lengths.dim() == 0:
            return variant.parameters.frequencies(lengths, device)
        return _row_by_row(variant.parameters, lengths)

    def _compute(self, device: torch.device | str | None) -> None:
        """Set the frequencies that no length changes."""
        if self._own.depends_on_length:
            return
        inv_freq, self.attention_scaling = self._own.parameters.frequencies(device=device)
        self.inv_freq = inv_freq.detach().float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryEmbedding":
        before = self.inv_freq
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = self.inv_freq
        if before is None or after is None or after.is_meta:
            return self
        if before.is_meta:
            self._compute(after.device)
        else:  # and not what `fn` made of it: in bfloat16, far positions are off by whole turns
            self.inv_freq = before.to(after.device)
        return self


def _found(embedding: RotaryEmbedding, _: None) -> tuple[Variant, bool]:
    """The variant that the table holds now, for the running context, and whether it is that of the construction."""
    function = embedding.interface[embedding.rope_type]
    own = embedding._own
    if function is own.function:
        return own, True
    return known_variant(embedding, function, embedding.config, embedding.layer_type, embedding.interface), False


def _lengths(position_ids: Tensor, seq_len: int | Tensor | None) -> Tensor:
    """The length of each row, or one for all."""
    rows, tokens = position_ids.shape[-2:]
    if seq_len is None:
        if tokens == 0:
            return position_ids.new_zeros(rows, dtype=torch.int64)
        largest = position_ids.amax(-1)
        return (largest if largest.dim() == 1 else largest.amax(0)).to(torch.int64) + 1
    if not isinstance(seq_len, Tensor):
        return torch.full((), seq_len, dtype=torch.int64, device=position_ids.device)
    if seq_len.shape not in {(), (1,), (rows,)}:
        raise InvalidShape(
            f"seq_len must be one length or one for each of {rows} rows, got shape {tuple(seq_len.shape)}"
        )
    return seq_len.to(position_ids.device)


def _row_by_row(parameters: "RopeParameters", lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies and factors of a function that takes one length at a time."""
    each: list[Any] = list(lengths.unbind()) if torch.compiler.is_compiling() else lengths.tolist()
    made = {length: parameters.frequencies(length, lengths.device) for length in dict.fromkeys(each)}
    found = [made[length] for length in each]
    factors = [torch.as_tensor(factor, dtype=torch.float32, device=lengths.device) for _, factor in found]
    return torch.stack([inv_freq for inv_freq, _ in found]), torch.stack(factors)
