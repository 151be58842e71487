"""What a configuration says about RoPE, in whichever layout it says it; values are checked elsewhere, per variant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstock.errors import InvalidConfig
from headstock.rope.heads import read_head_dim, with_rotary_dim
from headstock.rope.older import layer_sets_of_older_fields, outer_theta, renamed
from headstock.rope.view import View

__all__ = ["RopeSource", "read_rope", "rope_layer_types"]

# A set of parameters, however empty, rather than sets by layer type.
FLAT_FIELDS = frozenset({"factor", "partial_rotary_factor", "rope_theta", "rope_type", "type"})
# Variants that do not know `original_max_position_embeddings`: Phi-3 states it outside whether it is used or not.
WITHOUT_ORIGINAL_LENGTH = frozenset({"default", "linear", "dynamic", "proportional", "axial", "mrope"})


@dataclass(frozen=True)
class RopeSource:
    """What a configuration says about RoPE for one kind of layer, not yet checked against a variant.

    `rope_type` is as spelled there, "default" where nothing is said; `fields` are the keys of its rope parameters
    without `rope_type` and `type`, with what stands outside moved in; `head_dim` and `max_position_embeddings` are None
    where nothing says them; each of `notes` is a sentence about fields that disagree.
    """

    rope_type: str
    fields: Mapping[str, Any]
    head_dim: int | None
    max_position_embeddings: int | None
    notes: tuple[str, ...] = ()


def read_rope(config: object, layer_type: str | None = None) -> RopeSource | None:
    """What `config` says about RoPE for `layer_type`; None where it says that these layers have no RoPE.

    `config` is a mapping (a parsed `config.json`) or an object with such attributes, in the layout of today
    (`rope_parameters`, flat or one set per layer type) or an older one (`rope_scaling`, `type`, `rope_theta` outside,
    and the fields that single models had); it is never changed.

    Raises:
        InvalidConfig: a field is not a mapping or a whole number where it must be one, `layer_type` is missing or not
            one of the config's, or the config only holds the one that describes the layers (`text_config`).

    >>> older = {"head_dim": 64, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    >>> read_rope(older)
    RopeSource(rope_type='linear', fields={'factor': 2.0, 'rope_theta': 500000.0}, head_dim=64, \
max_position_embeddings=None, notes=())
    """
    view = View(config)
    notes: list[str] = []
    sets = _sets(view, notes)
    parameters = _chosen(view, sets, layer_type)
    if parameters is None or view.get("qk_rope_head_dim") == 0:
        return None
    layer = view if layer_type is None else view.of_layer(layer_type)
    rope_type, fields = _named(view, parameters, notes)
    _move_in(view, layer_type, rope_type, fields, nested=None not in sets, notes=notes)
    _note_layer_thetas(view, fields, notes)
    head_dim = read_head_dim(layer, rope_type, fields, notes)
    with_rotary_dim(layer, head_dim, fields, notes)
    return RopeSource(rope_type, fields, head_dim, view.whole("max_position_embeddings"), tuple(notes))


def rope_layer_types(config: object) -> tuple[str, ...]:
    """The layer types that `config` gives RoPE parameters of their own; empty where one set serves all layers.

    >>> rope_layer_types({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": None}})
    ('full_attention', 'sliding_attention')
    >>> rope_layer_types({"rope_parameters": {"rope_theta": 1e6}})
    ()
    """
    return tuple(name for name in _sets(View(config), []) if name is not None)


def _sets(view: View, notes: list[str]) -> dict[str | None, Mapping[str, Any] | None]:
    """The sets of parameters per layer type, or the one for all under None."""
    parameters = _written(view, notes)
    if not _is_nested(view, parameters):
        return layer_sets_of_older_fields(view, parameters) or {None: parameters}
    labels = view.labels()
    strays = [key for key, value in parameters.items() if key not in labels and not _is_set(value)]
    sets: dict[str | None, Mapping[str, Any] | None] = {
        key: _checked(f"rope_parameters[{key!r}]", parameters[key]) for key in parameters if key not in strays
    }
    # transformers may leave a theta and a type there, as defaults that every set overrules.
    unread = [key for key in strays if not all(each is None or key in each for each in sets.values())]
    if unread:
        notes.append(f"rope_parameters has the keys {unread} beside its layer types, where nothing reads them.")
    return sets


def _written(view: View, notes: list[str]) -> Mapping[str, Any]:
    """`rope_parameters`, or the older `rope_scaling`, which transformers prefers where both say something."""
    today = _checked("rope_parameters", view.get("rope_parameters")) or {}
    older = _checked("rope_scaling", view.get("rope_scaling")) or {}
    if today and older and today != older:
        notes.append("rope_scaling and rope_parameters disagree; rope_scaling is taken, as in transformers.")
    if not today and not older:
        _refuse_composite(view)
    return older or today


def _refuse_composite(view: View) -> None:
    says_nothing = all(view.get(name) is None for name in ("rope_theta", "head_dim", "num_attention_heads"))
    for name in ("text_config", "thinker_config", "decoder", "encoder_config", "dit_config") if says_nothing else ():
        if view.get(name) is not None:
            raise InvalidConfig(
                f"RoPE must be read from the config that describes the layers, got one that says nothing and holds a "
                f"{name}; pass that one"
            )


def _checked(field: str, value: object) -> Mapping[str, Any] | None:
    if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        raise InvalidConfig(
            f"{field} must be a mapping of RoPE parameters by name or null, got {value!r}; see docs/rope.md"
        )
    return value


def _is_set(value: object) -> bool:
    return value is None or isinstance(value, Mapping)


def _is_nested(view: View, parameters: Mapping[str, Any]) -> bool:
    if any(key in view.labels() for key in parameters):
        return True
    if not parameters or not all(_is_set(value) for value in parameters.values()):
        return False
    return not FLAT_FIELDS.intersection(parameters)


def _chosen(
    view: View, sets: Mapping[str | None, Mapping[str, Any] | None], layer_type: str | None
) -> Mapping[str, Any] | None:
    if None in sets:
        labels = view.labels()
        if layer_type is not None and labels and layer_type not in labels:
            raise InvalidConfig(f"layer_type must be one of the config's {sorted(labels)}, got {layer_type!r}")
        return sets[None]
    if layer_type not in sets:
        raise InvalidConfig(
            f"layer_type must name one of the sets in rope_parameters, {[name for name in sets if name]}, "
            f"got {layer_type!r}; each kind of layer has RoPE parameters of its own here"
        )
    return sets[layer_type]


def _named(view: View, parameters: Mapping[str, Any], notes: list[str]) -> tuple[str, dict[str, Any]]:
    """The variant's name and the other fields; `type` is how configs spelled `rope_type` before 2024."""
    today, older = parameters.get("rope_type"), parameters.get("type")
    if today is not None and older is not None and today != older:
        notes.append(f"rope_type is {today!r} and type is {older!r}; rope_type is taken.")
    name = today if today is not None else older
    name = "default" if name is None else name
    if not isinstance(name, str):
        raise InvalidConfig(f"rope_type must be the name of a RoPE variant, got {name!r}")
    own = view.get("default_rope_type")
    name = own if name == "default" and isinstance(own, str) else name
    return renamed(name, {key: value for key, value in parameters.items() if key not in ("rope_type", "type")})


def _move_in(
    view: View, layer_type: str | None, rope_type: str, fields: dict[str, Any], *, nested: bool, notes: list[str]
) -> None:
    """Add what stands outside the rope parameters; transformers prefers what stands inside, with one exception.

    Outside of sets by layer type stand the defaults of all sets, so a set that says otherwise contradicts nothing.
    """
    disagreements: list[str] = [] if nested else notes
    _add(fields, "rope_theta", outer_theta(view, layer_type), disagreements)
    if fields.get("rope_theta") is None:
        _add(fields, "rope_theta", view.default_theta(layer_type), disagreements)
    _add(fields, "partial_rotary_factor", view.first("partial_rotary_factor", "rotary_pct"), disagreements)
    original = "original_max_position_embeddings"
    if rope_type not in WITHOUT_ORIGINAL_LENGTH:
        # Phi-3 writes the length it was trained at outside: `standardize_rope_params` of transformers prefers it, for a
        # flat layout alone.
        _add(fields, original, view.get(original), notes, outer_wins=not nested)


def _note_layer_thetas(view: View, fields: Mapping[str, Any], notes: list[str]) -> None:
    """Granite-SWA gives single layers, rather than types of layers, thetas of their own; 0 is a layer without RoPE."""
    thetas = [each for each in view.names("layer_rope_theta") if isinstance(each, int | float)]
    others = [each for each in thetas if each not in (0, fields.get("rope_theta"))]
    if others:
        notes.append(
            f"layer_rope_theta gives layers thetas other than rope_theta, {sorted(set(others))}, which are not read; "
            "read the config once per theta, with rope_theta set to it."
        )


def _add(fields: dict[str, Any], name: str, outer: object, notes: list[str], *, outer_wins: bool = False) -> None:
    inner = fields.pop(name, None)
    kept = outer if inner is None or (outer_wins and outer is not None) else inner
    if kept is not None:
        fields[name] = kept
    if inner is not None and outer is not None and inner != outer:
        taken = "outer" if outer_wins else "inner"
        notes.append(f"{name} is {inner!r} inside and {outer!r} outside the rope parameters; the {taken} one is taken.")
