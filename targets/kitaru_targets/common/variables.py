"""The environment of a step: names that must not be set, and secrets that must not be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kitaru.errors import UsageError
from kitaru.wire import redaction

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# These change which program runs, or break the equality of hashes between steps.
_DENIED = re.compile(r"(LD_.*|DYLD_.*|PYTHON.*|PATH|BASH_ENV|ENV|IFS|KITARU_STORE)")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a step, sorted.

    Raises UsageError for a name that must not be set, and for a secret, which every reader of the
    document would see.
    """
    for name, value in variables.items():
        if redaction.is_secret_name(name) or redaction.redacted(value) != value:
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
