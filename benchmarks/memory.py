"""Bytes of memory of this process."""

import resource
from pathlib import Path
from typing import Literal

__all__ = ["memory"]

_STATUS = Path("/proc/self/status")


def memory(field: Literal["VmRSS", "VmHWM"]) -> int:
    """Bytes in use, or the most so far, of this process: `ru_maxrss` begins with that of its parent."""
    if not _STATUS.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(each for each in _STATUS.read_text(encoding="ascii").splitlines() if each.startswith(field))
    return int(line.split()[1]) * 1024
