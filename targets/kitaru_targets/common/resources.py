"""Decides what a step may ask of its machine, and what its environment may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kitaru.errors import UsageError
from kitaru.wire import secrecy

_UNITS = {
    "E": 10**18, "P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "K": 10**3, "k": 10**3,
    "Ei": 2**60, "Pi": 2**50, "Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10, "": 1,
}  # fmt: skip
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([EPTGM]i?|Ki|K|k|)")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# These change what program runs, or the promise that steps hash alike.
_DENIED = re.compile(r"(LD_.*|DYLD_.*|PYTHON.*|PATH|BASH_ENV|ENV|IFS|KITARU_STORE)")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a step, sorted.

    Raises UsageError on a name that must not be set, and on a secret: whoever sees the document
    would see it.
    """
    for name, value in variables.items():
        if secrecy.is_secret_name(name) or secrecy.redacted(value) != value:
            raise UsageError(
                f"Environment variable {name!r} holds a secret, and would stand in the document.",
                help=f'say where it is instead, [tool.kitaru.secrets] {name} = "aws:…", and read '
                f'it with kitaru.secret("{name}")',
            )
        if not _VARIABLE.fullmatch(name) or _DENIED.fullmatch(name):
            raise UsageError(
                f"Environment variable {name!r} cannot be set for a step.",
                help="names are letters, digits and underscores, and must not change what runs",
            )
    everything = {**variables, "PYTHONHASHSEED": "0"}
    return {name: everything[name] for name in sorted(everything)}


def cores(text: str) -> float:
    """Return an amount of CPU in cores; raise UsageError when it is none.

    >>> cores("500m")
    0.5
    """
    match = _CPU.fullmatch(text)
    if not match:
        raise UsageError(f"cpu={text!r} is not a number of cores.", help="such as cpu=2 or '500m'")
    return float(match[1]) / (1000 if match[2] else 1)


def size(text: str) -> float:
    """Return an amount of memory in bytes; raise UsageError when it is none.

    >>> size("4Ki")
    4096.0
    """
    match = _MEMORY.fullmatch(text)
    if not match:
        raise UsageError(f"memory={text!r} is not an amount.", help="such as memory='4Gi'")
    return float(match[1]) * _UNITS[match[2]]
