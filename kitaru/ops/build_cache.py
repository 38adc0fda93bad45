"""Cache of compilations and checks, for unchanged sources.

The cache key is computed from the command's arguments, the working directory, the environment
variables that are settings, Kitaru's own code, and the libraries next to it. A result is stored
with the responses of the file system (`kitaru.wire.disk`): every file that was read, every path
that was missing, every folder that was listed. The result is reused only if the file system returns
the same responses.

Some results are not stored: those of a target from another distribution, since its code may read
anything; errors; and all results while `kitaru.configure()` is in effect.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kitaru import config
from kitaru.version import VERSION
from kitaru.wire import disk
from kitaru.wire.modules import OURS

_VARIABLES = ("HOME", "XDG_CONFIG_HOME")
_DISTRIBUTIONS = (".dist-info", ".egg-info", ".egg-link", ".pth")


@dataclass(frozen=True)
class Stored:
    """A cached result: JSON values, and files by name."""

    values: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)


def key(operation: str, *arguments: str) -> str:
    """Return the cache key of an operation, empty if its result must not be stored."""
    if config.is_configured() or config.compile_cache("builds") is None:
        return ""
    try:
        own_code = list(_own_code())
    except (LookupError, OSError):
        return ""  # such as an archive of modules
    variables = [name for name in sorted(os.environ) if name.startswith("KITARU_")]
    parts = [
        operation,
        *arguments,
        str(Path.cwd()),
        str(config.named_stack()),
        VERSION,
        sys.version,
        *(f"{name}={os.environ.get(name)}" for name in (*_VARIABLES, *variables)),
        *own_code,
        *_distributions(),
    ]
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def load(key: str) -> Stored | None:
    """Return the cached result, None if the file system has changed."""
    cache = config.compile_cache("builds") if key else None
    data = cache.get(key) if cache else None
    if data is None:
        return None
    header, _, contents = data.partition(b"\n")
    values = json.loads(header)
    if not disk.Answers(values.pop("answers")).still_hold():
        return None
    files: dict[str, bytes] = {}
    start = 0
    for name, size in values.pop("files"):
        files[name] = contents[start : start + size]
        start += size
    return Stored(values, files)


def store(key: str, answers: disk.Answers, stored: Stored) -> None:
    """Store a result with the file system's responses on which it is based."""
    cache = config.compile_cache("builds") if key else None
    if cache is None or not answers.is_stable:
        return
    sizes = [(name, len(data)) for name, data in stored.files.items()]
    values = {**stored.values, "answers": answers.lines(), "files": sizes}
    header = json.dumps(values, separators=(",", ":")).encode()
    cache.put(key, b"\n".join([header, b"".join(stored.files.values())]))
    cache.evict()


def with_findings(findings: tuple[Any, ...], sources: Mapping[str, str]) -> dict[str, Any]:
    """Return findings, and the sources that they quote, as JSON values."""
    if not findings:
        return {"findings": [], "sources": {}}
    from kitaru_compiler.diagnostics.stored import to_stored

    shown = {span.file for d in findings for span in (d.span, *(span for span, _ in d.related))}
    texts = {file: text for file, text in sources.items() if file in shown}
    return {"findings": to_stored(findings), "sources": texts}


def findings_of(stored: Stored) -> tuple[Any, ...]:
    """Return the findings of a stored result."""
    if not stored.values["findings"]:
        return ()
    from kitaru_compiler.diagnostics.stored import from_stored

    return from_stored(stored.values["findings"])


def _own_code() -> Iterator[str]:
    """Yield data that identifies the state of Kitaru's code, as Python does for bytecode.

    In an editable installation the version does not change with the code.
    """
    for package in OURS:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise LookupError(package)
        pending = [*spec.submodule_search_locations]
        while pending:
            with os.scandir(pending.pop()) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                if not entry.is_dir():
                    seen = entry.stat()
                    yield f"{entry.path} {seen.st_size} {seen.st_mtime_ns}"
                elif entry.name != "__pycache__":
                    pending.append(entry.path)


def _distributions() -> Iterator[str]:
    """Yield data that identifies the set of installed distributions."""
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as found:
                entries = [e for e in found if e.name.endswith(_DISTRIBUTIONS)]
        except OSError:
            continue
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield f"{entry.path} {entry.stat().st_mtime_ns}"
