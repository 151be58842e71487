"""`transformers.pytorch_utils`: every public name of 5.23, and those that the 4.x line had and 5 removed."""

from safetensors.torch import storage_ptr, storage_size
from torch import nn

from headstock.compat.pytorch_utils.caching import compile_compatible_method_lru_cache
from headstock.compat.pytorch_utils.pruning import prune_conv1d_layer, prune_layer, prune_linear_layer
from headstock.compat.pytorch_utils.storage import id_tensor_storage
from headstock.compat.pytorch_utils.tensors import isin_mps_friendly, meshgrid, move_to_device, softmax_backward_data
from headstock.compat.pytorch_utils.versions import (
    is_torch_greater_or_equal_than_1_12,
    is_torch_greater_or_equal_than_1_13,
    is_torch_greater_or_equal_than_2_0,
    is_torch_greater_or_equal_than_2_1,
    is_torch_greater_or_equal_than_2_2,
    is_torch_greater_or_equal_than_2_3,
    is_torch_greater_or_equal_than_2_4,
    is_torch_greater_or_equal_than_2_6,
    is_torch_greater_or_equal_than_2_8,
    parsed_torch_version_base,
)
from headstock.layers import Conv1D, apply_chunking_to_forward, find_pruneable_heads_and_indices

__all__ = [
    "ALL_LAYERNORM_LAYERS",
    "Conv1D",
    "apply_chunking_to_forward",
    "compile_compatible_method_lru_cache",
    "find_pruneable_heads_and_indices",
    "id_tensor_storage",
    "is_torch_greater_or_equal_than_1_12",
    "is_torch_greater_or_equal_than_1_13",
    "is_torch_greater_or_equal_than_2_0",
    "is_torch_greater_or_equal_than_2_1",
    "is_torch_greater_or_equal_than_2_2",
    "is_torch_greater_or_equal_than_2_3",
    "is_torch_greater_or_equal_than_2_4",
    "is_torch_greater_or_equal_than_2_6",
    "is_torch_greater_or_equal_than_2_8",
    "isin_mps_friendly",
    "meshgrid",
    "move_to_device",
    "parsed_torch_version_base",
    "prune_conv1d_layer",
    "prune_layer",
    "prune_linear_layer",
    "softmax_backward_data",
    "storage_ptr",
    "storage_size",
]

#: The classes whose parameters training leaves out of weight decay; models append their own.
ALL_LAYERNORM_LAYERS: list[type[nn.Module]] = [nn.LayerNorm]
