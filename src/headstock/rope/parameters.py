"""`RopeParameters`: what every RoPE variant's parameters share, read strictly from any layout of a configuration."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Num
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.registry import Link, declaration_of
from headstock.rope.contract import Frequencies, RopeFunction, canonical
from headstock.rope.conventions import stated
from headstock.rope.doubts import doubt
from headstock.rope.fields import Fraction, HeadSize, Length, Sections, Theta, refusals
from headstock.rope.reading import RopeSource, read_rope, rope_layer_types
from headstock.rope.sections import angles_of, axes_mask, check_sections
from headstock.rope.view import View

__all__ = ["Lengths", "OpenParameters", "RopeParameters"]

#: No length, one for all rows, or a tensor of one for all or one per row.
Lengths: TypeAlias = int | Int[Tensor, "*rows"] | None


class RopeParameters(BaseModel):
    """The parameters of one RoPE variant for one kind of layer: strictly typed, frozen, every refusal by field name.

    A variant subclasses it with its own fields and with `compute`, its formula. Whole numbers may be written as floats
    (4096.0), since JSON tells them apart no more than we do; other numbers as ints.

    Raises:
        InvalidConfig: a field is unknown, missing, or of a wrong type or value.

    Example:
        >>> from headstock.rope import RopeParameters
        >>> config = {"hidden_size": 2048, "num_attention_heads": 32, "rope_scaling": {"type": "linear", "factor": 4}}
        >>> RopeParameters.from_config(config)
        LinearParameters(rope_type='linear', head_dim=64, factor=4.0)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rope_type: str = Field(default="default", description="the variant's name in the table")
    rope_theta: Theta = Field(default=10_000.0, description="the base whose negative powers the frequencies are")
    partial_rotary_factor: Fraction = Field(default=1.0, description="the part of each head that is rotated")
    head_dim: HeadSize = Field(description="the channels of one head, or say hidden_size and num_attention_heads")
    max_position_embeddings: Length | None = Field(default=None, description="the longest sequence, in tokens")
    mrope_section: Sections | None = Field(
        default=None, description="the number of frequencies for each axis of positions"
    )
    mrope_interleaved: bool = Field(default=False, description="whether the axes take turns frequency by frequency")

    # The function registered for this variant, what it is called with, and the layer type; set on an instance. Not a
    # private attribute of pydantic: dynamo cannot trace reading one.
    _called: ClassVar[tuple[RopeFunction, Any, str | None] | None] = None

    if not TYPE_CHECKING:  # type checkers see the fields as keywords

        def __init__(self, /, **fields: object) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                name = fields.get("rope_type", type(self).model_fields["rope_type"].default)
                raise InvalidConfig(refusals(type(self), name, error)) from None

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if self.rotary_dim < 2 or self.rotary_dim % 2:
            raise ValueError(
                "head_dim * partial_rotary_factor must be an even number of channels, at least 2, got "
                f"{self.head_dim} * {self.partial_rotary_factor:g} = {self.rotary_dim}; channels turn in pairs, so "
                "change one of the two"
            )
        if self.mrope_section is not None:
            check_sections(self.mrope_section, self.rotary_dim // 2, interleaved=self.mrope_interleaved)
        return self

    @property
    def rotary_dim(self) -> int:
        """The number of channels of each head that are rotated, the first ones."""
        return self._part

    @property
    def _part(self) -> int:
        return int(self.head_dim * self.partial_rotary_factor)

    @classmethod
    def from_config(
        cls,
        config: object,
        layer_type: str | None = None,
        *,
        strict: bool = False,
        interface: Link[RopeFunction] | None = None,
    ) -> Self:
        """The parameters that `config` states for the layers of `layer_type`, of the class of its `rope_type`.

        Called on a variant's class, it reads the configuration as that variant's, whatever its `rope_type`.

        Args:
            config: a mapping, an object with attributes, or parameters, which are returned as they are; never changed.
            layer_type: which layers, where the configuration tells them apart.
            strict: whether unknown keys and fields that disagree are errors; otherwise they are warned of.
            interface: where `rope_type` is looked up, the shared table by default.

        Raises:
            InvalidConfig: a value is missing or impossible, or `strict` and a key is unknown or two fields disagree.
            UnknownVariant: no table has the `rope_type`; an `InvalidConfig` too.

        Warns:
            ConfigWarning: a key is unknown or two fields disagree.
        """
        if isinstance(config, cls):
            return config
        if isinstance(config, RopeParameters):  # of another variant: what the two share
            return cls(**{name: value for name, value in config if name in cls.model_fields})
        source = read_rope(config, layer_type)
        if source is None:
            raise InvalidConfig(
                f"the rope parameters of layer type {layer_type!r} must be given to compute frequencies, got null; "
                "these layers have no RoPE"
            )
        if cls is not RopeParameters:
            return cls._read(source, source.rope_type, config, strict=strict)
        return cls._looked_up(source, config, layer_type, strict, interface)

    @classmethod
    def per_layer_type(
        cls, config: object, *, strict: bool = False, interface: Link[RopeFunction] | None = None
    ) -> dict[str, Self | None]:
        """`from_config` for each layer type that is told apart, None where it says null (no RoPE); or nothing."""
        return {
            layer_type: None
            if read_rope(config, layer_type) is None
            else cls.from_config(config, layer_type, strict=strict, interface=interface)
            for layer_type in rope_layer_types(config)
        }

    @classmethod
    def _looked_up(
        cls,
        source: RopeSource,
        config: object,
        layer_type: str | None,
        strict: bool,
        interface: Link[RopeFunction] | None,
    ) -> Self:
        from headstock.rope import ROPE_INIT_FUNCTIONS  # the table holds the variants, which are subclasses

        table = ROPE_INIT_FUNCTIONS if interface is None else interface
        name = canonical(source.rope_type, table)
        function = table[name]
        declared = declaration_of(function)
        variant: type[Any] = OpenParameters if declared is None or declared.parameters is None else declared.parameters
        made: Self = variant._read(source, name, config, strict=strict)
        takes = config if variant is OpenParameters else made
        return made if made.is_computed_by(function) else made.called(function, takes, layer_type)

    @classmethod
    def _read(cls, source: RopeSource, name: str, config: object, *, strict: bool) -> Self:
        known = None if cls.model_config["extra"] == "allow" else cls.model_fields
        fields, doubts = stated(source, View(config).get("model_type"), name, known)
        made = cls(**fields)
        doubt([*doubts, *source.notes, *made._disagreements()], strict=strict)
        return made

    def _disagreements(self) -> list[str]:
        """Fields that say one thing twice and differently, a sentence each."""
        return []

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:  # noqa: ARG002
        """The variant's formula, see `frequencies`; `UnsupportedFeature` where the class has none."""
        raise UnsupportedFeature(
            f"{type(self).__name__} must have a formula to compute frequencies, got none; define compute in it, or "
            "read it with RopeParameters.from_config, which finds the registered function"
        )

    def frequencies(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:
        """Inverse frequencies in float32, radians per position, and the factor on cosines and sines.

        `[rotary_dim // 2]`, for a tensor of one length per row `[rows, rotary_dim // 2]`; the factor is a tensor only
        where it depends on a length that is one. `seq_len` is in tokens.

        Raises:
            InvalidShape: `seq_len` is a tensor of more than one dimension.
        """
        if isinstance(seq_len, Tensor) and seq_len.dim() > 1:
            raise InvalidShape(
                f"seq_len must be one length or one per row, got a tensor of shape {tuple(seq_len.shape)}; flatten it"
            )
        if self._called is not None:
            function, config, layer_type = self._called
            inv_freq, factor = function(config, device=device, seq_len=seq_len, layer_type=layer_type)
        else:
            inv_freq, factor = self.compute(seq_len, device)
        if isinstance(seq_len, Tensor) and seq_len.dim() == 1 and inv_freq.dim() == 1:
            inv_freq = inv_freq.expand(seq_len.shape[0], -1)
        return inv_freq, factor

    def is_computed_by(self, function: RopeFunction) -> bool:
        """Whether `frequencies` is what `function` gives for these parameters."""
        if self._called is not None:
            return self._called[0] is function
        # Our own functions do no more than call `compute` of their parameters; a wrapper of one has the same module.
        home = type(self).__module__
        own = getattr(sys.modules[home], getattr(function, "__name__", ""), None)
        return own is function and home.startswith("headstock.rope.")

    def called(self, function: RopeFunction, config: object = None, layer_type: str | None = None) -> Self:
        """A copy whose `frequencies` are what `function` gives for `config`, by default for these parameters."""
        made, declared = self.model_copy(), declaration_of(function)
        variant: type[Any] | None = None if declared is None else declared.parameters
        if config is None:  # converted now and not in each call, which dynamo could not trace
            config = self if variant is None else variant.from_config(self)
        object.__setattr__(made, "_called", (function, config, layer_type))
        return made

    def angles(
        self, position_ids: Num[Tensor, "*axes rows tokens"], inv_freq: Float[Tensor, "*rows half"]
    ) -> Float[Tensor, "rows tokens half"]:
        """The angle of each rotated pair of channels, in radians and float32: position times frequency.

        `position_ids` are `[rows, tokens]`, with `mrope_section` also one of these per axis; `inv_freq` is that of
        `frequencies`, one set for all rows or one for each.

        Raises:
            InvalidShape: the positions have more axes than the parameters speak of, or other ones.
        """
        turned_by = self._turned_by(inv_freq.shape[-1], position_ids.device)
        in_one = turned_by is None or self.mrope_section is not None
        return angles_of(position_ids, inv_freq, turned_by, in_one=in_one)

    def _turned_by(self, half: int, device: torch.device) -> list[Bool[Tensor, "half"]] | None:
        """For each axis of positions the frequencies that it turns; None where there is one axis."""
        if self.mrope_section is None:
            return None
        return axes_mask(self.mrope_section, half, interleaved=self.mrope_interleaved, device=device)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return ((name, value) for name, value in super().__repr_args__() if name in self.model_fields_set)


class OpenParameters(RopeParameters):
    """The parameters of a variant that declares none: any keys, of which what all variants share is checked."""

    model_config = ConfigDict(extra="allow")
