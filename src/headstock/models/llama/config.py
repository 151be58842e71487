"""The configuration of Llama and of its relatives, which differ in a few fields and in what those mean."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, PrivateAttr, SerializerFunctionWrapHandler, model_serializer, model_validator

from headstock.models.config import Activation, Epsilon, ModelConfig, Probability, Size
from headstock.rope import RopeParameters

__all__ = ["LlamaConfig"]

LayerType = Literal["full_attention", "sliding_attention"]
_WINDOWS = frozenset({"layer_types", "max_window_layers", "sliding_window", "use_sliding_window"})


class Convention(NamedTuple):
    """What one model type has and what it takes a field to be that a file leaves out.

    Attributes:
        fields: those that some types have and others have not.
        defaults: values of fields where they differ from the usual ones.
        rope_theta: the base where nothing says it.
        qkv_bias: whether queries, keys and values have biases whatever `attention_bias` says.
        qk_norm: whether each head's queries and keys are normalised.
    """

    fields: frozenset[str]
    defaults: Mapping[str, Any] = MappingProxyType({})
    rope_theta: float = 10_000.0
    qkv_bias: bool = False
    qk_norm: bool = False


_QWEN = MappingProxyType({"sliding_window": 4096, "max_window_layers": 28})
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        "llama": Convention(frozenset({"attention_bias", "mlp_bias"})),
        "mistral": Convention(frozenset({"sliding_window"}), {"sliding_window": 4096}),
        "qwen2": Convention(_WINDOWS, _QWEN, qkv_bias=True),
        "qwen3": Convention(_WINDOWS | {"attention_bias"}, {**_QWEN, "head_dim": 128}, qk_norm=True),
        "smollm3": Convention(
            _WINDOWS | {"attention_bias", "mlp_bias", "no_rope_layer_interval", "no_rope_layers"},
            {"tie_word_embeddings": True, "no_rope_layer_interval": 4},
            rope_theta=2_000_000.0,
        ),
    }
)
_SOMETIMES = sorted({field for convention in CONVENTIONS.values() for field in convention.fields})
# Not written where they say what is usual: other programs do not know them.
_UNUSUAL = frozenset({"add_cross_attention", "rope_interleaved", "rotary_layout", "use_mrope"})


class LlamaConfig(ModelConfig):
    """Sizes and constants of a Llama decoder or of a relative (`model_type`), under transformers' field names.

    Sizes have no defaults; what a file may leave out is what its model type takes it to be. A field that the type does
    not have is refused unless it says nothing. What says something about RoPE is read by
    `headstock.rope.RopeParameters.from_config`, today's layout and the older ones.

    Raises:
        InvalidConfig: a field is unknown, missing, of a wrong type or value, or not one of this model type.

    Example:
        >>> config = LlamaConfig(model_type="qwen3", vocab_size=50, hidden_size=16, intermediate_size=24, head_dim=8,
        ...                      num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=32,
        ...                      use_sliding_window=True, sliding_window=4, max_window_layers=2)
        >>> config.windows, config.rope.head_dim
        ((None, None, 4), 8)
    """

    # Fields that nothing reads: of the training set-up, of a web runtime, or without effect on the result.
    passed_over: ClassVar[frozenset[str]] = frozenset(
        {"chunk_size_feed_forward", "is_llama_config", "pretraining_tp", "transformers.js_config"}
    )

    model_type: Literal["llama", "mistral", "qwen2", "qwen3", "smollm3"] = "llama"
    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    max_position_embeddings: Size
    hidden_act: Activation = "silu"
    rms_norm_eps: Epsilon = 1e-6
    initializer_range: Epsilon = 0.02
    attention_dropout: Probability = 0.0
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None

    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_theta: Epsilon | None = None
    rotary_layout: Literal["half_split", "interleaved"] = "half_split"

    # Fields of some model types.
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: Size | None = None
    use_sliding_window: bool = False
    max_window_layers: Annotated[int, Field(ge=0)] | None = None
    layer_types: list[LayerType] | None = None
    no_rope_layers: list[Literal[0, 1]] | None = None
    no_rope_layer_interval: Size | None = None

    # What other models of these types compute, and these do not.
    rope_interleaved: Literal[False] = False
    use_mrope: Literal[False] = False
    add_cross_attention: Literal[False] = False
    is_encoder_decoder: Literal[False] = False

    _rope: RopeParameters = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, fields: dict[str, Any]) -> dict[str, Any]:
        known = CONVENTIONS.get(fields.get("model_type", "llama"))
        return fields if known is None else {**known.defaults, **fields}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for field in _SOMETIMES:
            value = getattr(self, field)
            if field not in self.convention.fields and value != type(self).model_fields[field].default:
                raise ValueError(f"{field} must be left out for model_type {self.model_type!r}, got {value!r}")
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "hidden_size must be a multiple of num_attention_heads where head_dim does not say the size of a head, "
                f"got {self.hidden_size} and {self.num_attention_heads}"
            )
        if self.num_attention_heads % self.key_value_heads:
            raise ValueError(
                "num_attention_heads must be a multiple of num_key_value_heads, got "
                f"{self.num_attention_heads} and {self.num_key_value_heads}"
            )
        if self.pad_token_id is not None and not -self.vocab_size <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id must be a token of {self.vocab_size}, got {self.pad_token_id}")
        self._check_layers()
        self._rope = RopeParameters.from_config(self._rope_source())
        return self

    def _check_layers(self) -> None:
        layers, types, rotated = self.num_hidden_layers, self.layer_types, self.no_rope_layers
        if types is not None and len(types) != layers:
            raise ValueError(f"layer_types must have one entry for each of {layers} layers, got {len(types)}")
        if rotated is not None and len(rotated) < layers:
            raise ValueError(f"no_rope_layers must have an entry for each of {layers} layers, got {len(rotated)}")
        if "sliding_attention" in (types or ()) and not (self.use_sliding_window and self.sliding_window):
            raise ValueError(
                "sliding_window must be given and use_sliding_window true where layer_types names sliding_attention, "
                f"got {self.sliding_window} and {self.use_sliding_window}"
            )

    def _rope_source(self) -> dict[str, Any]:
        """What says something about RoPE, and what that refers to."""
        names = ("rope_parameters", "rope_scaling", "rope_theta")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        inner = {**(self.rope_parameters or {}), **(self.rope_scaling or {})}
        if self.rope_theta is None and "rope_theta" not in inner:
            given["rope_theta"] = self.convention.rope_theta
        return {**given, "head_dim": self.head_size, "max_position_embeddings": self.max_position_embeddings}

    @model_serializer(mode="wrap")
    def _fields_of_the_type(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields that say something: None does where the type would take an absent field to be something else."""
        fields: dict[str, Any] = write(self)
        own, defaults = self.convention.fields, self.convention.defaults
        unusual = {*_SOMETIMES, *_UNUSUAL} - own
        return {
            name: value
            for name, value in fields.items()
            if (value is not None or name in defaults or name == "pad_token_id")
            and not (name in unusual and value == type(self).model_fields[name].default)
        }

    @property
    def convention(self) -> Convention:
        """What the model type has."""
        return CONVENTIONS[self.model_type]

    @property
    def head_size(self) -> int:
        """The size of a head."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim

    @property
    def key_value_heads(self) -> int:
        """The number of heads of keys and values."""
        return self.num_attention_heads if self.num_key_value_heads is None else self.num_key_value_heads

    @property
    def rope(self) -> RopeParameters:
        """The parameters of the position embedding, checked."""
        return self._rope

    @property
    def rotates(self) -> tuple[bool, ...]:
        """Of each layer, whether it rotates queries and keys."""
        layers = range(self.num_hidden_layers)
        if self.no_rope_layers is not None:
            return tuple(bool(self.no_rope_layers[layer]) for layer in layers)
        interval = self.no_rope_layer_interval
        return tuple(interval is None or (layer + 1) % interval != 0 for layer in layers)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Of each layer, how many keys a token sees, its own included; None: all."""
        return tuple(self.sliding_window if slides else None for slides in self._slides())

    def _slides(self) -> list[bool]:
        layers, used = range(self.num_hidden_layers), self.use_sliding_window
        if self.layer_types is not None:
            return [kind == "sliding_attention" for kind in self.layer_types]
        match self.model_type:
            case "mistral":
                return [True for _ in layers]
            case "smollm3":
                return [used and not rotated for rotated in self.rotates]
        first = self.max_window_layers or 0
        return [used and layer >= first for layer in layers]
