from torch import nn

from headstock.rope.embedding import RotaryEmbedding
from headstock.rope.settings import ROPE_SETTINGS, RopeSetting


def test_the_last_setting_of_a_layer_wins() -> None:
    rotary = RotaryEmbedding({"head_dim": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 10.0}})
    layer = nn.Identity()
    one, two = (RopeSetting(rotary=rotary, key=key, origin=key) for key in ("one", "two"))
    ROPE_SETTINGS.lay(layer, "a", one)
    ROPE_SETTINGS.lay(layer, "b", two)
    assert ROPE_SETTINGS.of(layer) is two
    ROPE_SETTINGS.take(layer, "b")
    assert ROPE_SETTINGS.of(layer) is one
    assert list(layer.parameters()) == list(layer.buffers()) == []
    assert list(layer.modules()) == [layer]
