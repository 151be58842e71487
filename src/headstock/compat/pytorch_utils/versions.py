"""Flags that tell torch's version, a development build of a version counting as that version."""

import re
from typing import Any

import torch
from torch.torch_version import TorchVersion

try:
    from packaging.version import Version
except ImportError:  # then nobody compares with packaging's versions either
    Version = TorchVersion  # type: ignore[assignment, misc]  # both compare with their own kind

__all__ = [
    "is_torch_greater_or_equal_than_1_12",
    "is_torch_greater_or_equal_than_1_13",
    "is_torch_greater_or_equal_than_2_0",
    "is_torch_greater_or_equal_than_2_1",
    "is_torch_greater_or_equal_than_2_2",
    "is_torch_greater_or_equal_than_2_3",
    "is_torch_greater_or_equal_than_2_4",
    "is_torch_greater_or_equal_than_2_6",
    "is_torch_greater_or_equal_than_2_8",
    "parsed_torch_version_base",
    "release_of",
]


def release_of(version: str) -> str:
    """The numbers of a version, without what marks development, release candidates and builds.

    Example:
        >>> release_of("2.8.0a0+git1234"), release_of("2.13.0+cpu")
        ('2.8.0', '2.13.0')
    """
    return ".".join(re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0]))


#: torch's release as a `packaging.version.Version`, as transformers 4 had it.
parsed_torch_version_base: Any = Version(release_of(torch.__version__))

_RELEASE = tuple(int(number) for number in release_of(torch.__version__).split("."))

is_torch_greater_or_equal_than_2_8 = _RELEASE >= (2, 8)
is_torch_greater_or_equal_than_2_6 = _RELEASE >= (2, 6)
is_torch_greater_or_equal_than_2_4 = _RELEASE >= (2, 4)
is_torch_greater_or_equal_than_2_3 = _RELEASE >= (2, 3)
is_torch_greater_or_equal_than_2_2 = _RELEASE >= (2, 2)
is_torch_greater_or_equal_than_2_1 = _RELEASE >= (2, 1)
is_torch_greater_or_equal_than_2_0 = _RELEASE >= (2, 0)
is_torch_greater_or_equal_than_1_13 = _RELEASE >= (1, 13)
is_torch_greater_or_equal_than_1_12 = _RELEASE >= (1, 12)
