"""Decides how a step's resources and environment are written into its executor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.plan import Resources

_UNITS = {
    "E": 10**18, "P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "K": 10**3, "k": 10**3,
    "Ei": 2**60, "Pi": 2**50, "Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10, "": 1,
}  # fmt: skip
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([EPTGM]i?|Ki|K|k|)")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# These change what program runs, or the promise that steps hash alike.
_DENIED = re.compile(r"(LD_.*|DYLD_.*|PYTHON.*|PATH|BASH_ENV|ENV|IFS|KITARU_STORE)")
_GPU = "nvidia.com/gpu"


def emit(resources: Resources) -> dict[str, Any]:
    """Return the executor's `resources`, empty when the step asks for nothing.

    Both the old numeric fields and the newer text fields are written: servers differ in which of
    them they read.
    """
    asked: dict[str, Any] = {}
    if resources.cpu:
        asked |= {"cpuLimit": _cores(resources.cpu), "resourceCpuLimit": resources.cpu}
    if resources.memory:
        memory = resources.memory
        asked |= {"memoryLimit": _gigabytes(memory), "resourceMemoryLimit": memory}
    if resources.gpu:
        count = str(resources.gpu)
        asked["accelerator"] = {
            "type": _GPU,
            "count": count,
            "resourceType": _GPU,
            "resourceCount": count,
        }
    return asked


def environment(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the executor's `env`, sorted; raise UsageError on a name that must not be set."""
    for name in variables:
        if not _VARIABLE.fullmatch(name) or _DENIED.fullmatch(name):
            raise UsageError(
                f"environment variable {name!r} cannot be set for a step",
                help="names are letters, digits and underscores, and must not change what runs",
            )
    everything = {**variables, "PYTHONHASHSEED": "0"}
    return [{"name": name, "value": everything[name]} for name in sorted(everything)]


def _cores(text: str) -> float:
    match = _CPU.fullmatch(text)
    if not match:
        raise UsageError(f"cpu={text!r} is not a number of cores", help="such as cpu=2 or '500m'")
    return float(match[1]) / (1000 if match[2] else 1)


def _gigabytes(text: str) -> float:
    match = _MEMORY.fullmatch(text)
    if not match:
        raise UsageError(f"memory={text!r} is not an amount", help="such as memory='4Gi'")
    return float(match[1]) * _UNITS[match[2]] / 10**9
