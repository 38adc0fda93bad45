"""Cache keys for results shared between executions.

A cached result is reused only if everything that the call can read is equal: the code, the
arguments with their classes, and the state outside the function as digested by
`kitaru.runtime.codec.reach`. The key is computed before the call runs. A call that reaches an
opaque object has no key.

The state does not include files and environment variables that the project's code reads by name. A
call that reads them has no key unless its checkpoint declares them with `depends_on`.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from kitaru.config import setting
from kitaru.runtime.codec import user_codecs
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal.cache import code_of
from kitaru.wire import canonical

_SESSION = uuid.uuid4().hex


def key_of(call: Call) -> str:
    """Return the cache key of a call in the current state; empty if the call must not be cached."""
    spec = call.spec
    fingerprint = spec.fingerprint()
    if not spec.cache or call.opaque or not fingerprint:
        return ""
    # The import takes a fifth of `import kitaru`, and the cache is off by default.
    from kitaru.runtime.codec.reach import State

    state = State(stateless=frozenset(setting("stateless").value))
    state.add(spec.function, spec.name)
    state.add((call.args, call.kwargs), "an argument")
    if state.opaque or (state.external and not spec.depends_on):
        return ""
    declared = _declared(spec.depends_on)
    if declared is None:
        return ""
    told = [call.digest, state.digest(), declared, test_run()]
    if codes := _codec_code():
        told.append(codes)
    rest = canonical.digest(told).removeprefix("sha256:")
    return f"{code_of(spec.callee, spec.name, fingerprint)}/{rest}"


def test_run() -> str:
    """Return a string that identifies the running test; empty outside tests.

    A test can patch things that no digest covers, such as a method of an installed class. Its
    results are therefore reused only by the same test in the same test process. A process started
    by a test reuses only its own results.
    """
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = getattr(main, "name", None) or ""
    patches = "_pytest" in sys.modules or "unittest.mock" in sys.modules
    if test or patches or name.startswith(("unittest", "doctest")):
        return f"{_SESSION} {test.rpartition(' (')[0]}"
    return ""


def _codec_code() -> list[list[Any]]:
    """Return the code of all codecs: before the call runs, its result's codecs are unknown."""
    from kitaru.runtime.codec.reach import State

    found = []
    for codec in user_codecs.codecs():
        state = State()
        state.add((codec.encode, codec.decode, codec.view), codec.name)
        found.append([codec.name, codec.version, state.digest()])
    return found


def _declared(depends_on: tuple[str, ...]) -> list[list[str]] | None:
    """Return the contents of the declared files and variables; None if one is unreadable."""
    found = []
    for one in depends_on:
        if one.startswith("env:"):
            value = os.environ.get(one.removeprefix("env:"))
            found.append([one, "unset" if value is None else f"={value}"])
            continue
        try:
            files = sorted(path for path in Path().glob(one) if path.is_file())
            digests = [[str(path), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
        except (OSError, ValueError, NotImplementedError):
            return None
        found.append([one, canonical.digest(digests)])
    return found
