"""Amounts of CPU and memory, such as `cpu="500m"` and `memory="4Gi"`."""

from __future__ import annotations

import re

from kitaru.errors import UsageError

_UNITS = {
    "E": 10**18, "P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "K": 10**3, "k": 10**3,
    "Ei": 2**60, "Pi": 2**50, "Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10, "": 1,
}  # fmt: skip
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([EPTGM]i?|Ki|K|k|)")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")


def cores(text: str) -> float:
    """Return an amount of CPU in cores. Raise UsageError if `text` is not one.

    >>> cores("500m")
    0.5
    """
    match = _CPU.fullmatch(text)
    if not match:
        raise UsageError(f"cpu={text!r} is not a number of cores.", help="such as cpu=2 or '500m'")
    return float(match[1]) / (1000 if match[2] else 1)


def size(text: str) -> float:
    """Return an amount of memory in bytes. Raise UsageError if `text` is not one.

    >>> size("4Ki")
    4096.0
    """
    match = _MEMORY.fullmatch(text)
    if not match:
        raise UsageError(f"memory={text!r} is not an amount.", help="such as memory='4Gi'")
    return float(match[1]) * _UNITS[match[2]]
