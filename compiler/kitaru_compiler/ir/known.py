"""Builtins of which the compiler knows what they do with frames, functions and generators."""

from __future__ import annotations

import builtins

BUILTINS = frozenset(dir(builtins))
FRAME_READERS = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})
# These use the function or generator up before they return, so it outlives no statement.
CONSUMERS = frozenset(
    {"all", "any", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple"}
)
