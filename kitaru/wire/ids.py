"""Ids of executions and invocations."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Mapping

from kitaru.errors import UsageError
from kitaru.wire import canonical
from kitaru.wire.names import check_name
from kitaru.wire.times import now_milliseconds

# Crockford's alphabet: in ASCII order, and without the letters that people mistake for digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_EXECUTION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_NUMBERED = re.compile(r"(.+)_([2-9]|[1-9][0-9]+)", re.ASCII)

_lock = threading.Lock()
_last_ms = 0


def new_execution_id() -> str:
    """Return a fresh execution id: eight random characters, a dash, nine of time.

    The random ones come first, so that the keys of executions that run at once are spread over the
    whole range: a bucket is split into partitions by ranges of keys.

    Example:
        >>> len(new_execution_id())
        18
    """
    moment, chance = _moment_and_chance()
    return f"{chance}-{moment}"


def new_ascending_id() -> str:
    """Return a fresh id that sorts by the millisecond it was made in; a process's always ascend."""
    moment, chance = _moment_and_chance()
    return f"{moment}-{chance}"


def _moment_and_chance() -> tuple[str, str]:
    global _last_ms
    with _lock:
        _last_ms = max(now_milliseconds(), _last_ms + 1)
        ms = _last_ms
    moment = "".join(_ALPHABET[(ms >> shift) & 31] for shift in range(40, -1, -5))
    return moment, "".join(_ALPHABET[byte & 31] for byte in os.urandom(8))


def check_execution_id(text: str) -> str:
    """Return `text` when it can be an execution id.

    Raises:
        UsageError: it is not 1 to 63 lower-case letters, digits and dashes, a dash not first.
    """
    if isinstance(text, str) and _EXECUTION.fullmatch(text):
        return text
    shown = ascii(text)
    raise UsageError(
        f"{shown if len(shown) <= 80 else shown[:77] + '...'} cannot be an execution id.",
        help="Use 1 to 63 lower-case letters, digits and dashes; `kitaru executions list` "
        "shows the ids there are.",
    )


def idempotency_key(exec_id: str, invocation: str) -> str:
    """Return what names an invocation to the world outside: the same in every attempt of it."""
    return canonical.digest([exec_id, invocation]).removeprefix("sha256:")[:32]


def execution_id_of(run: str) -> str:
    """Return the execution id of a run that an orchestrator has named.

    A valid execution id is returned unchanged. Any other name is reduced to the allowed characters,
    and a digest of the whole name is appended, so that no two runs share an id.

    Example:
        >>> execution_id_of("review/manual__2026-11-22T06:00:00+00:00")
        'review-manual-2026-11-22t06-00-00-00-00-j0xh7nwf'
    """
    if _EXECUTION.fullmatch(run):
        return run
    digest = hashlib.sha256(run.encode("utf-8", "surrogatepass")).digest()
    words = re.sub(r"[^a-z0-9]+", "-", run.lower(), flags=re.ASCII).strip("-")[:54].rstrip("-")
    return "-".join(filter(None, [words, "".join(_ALPHABET[byte & 31] for byte in digest[:8])]))


class Counters:
    """Hands out invocation ids in program order: `draft`, `draft_2`, `draft_3`…

    Run-time state of an execution: it travels in frames as JSON, so that ids never depend on where
    the flow was cut. Holds the highest number used of each name; not safe for concurrent calls.

    Example:
        >>> counters = Counters()
        >>> counters.take("draft"), counters.take("draft")
        ('draft', 'draft_2')
    """

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}
        self._position = 0
        # How many calls of the flow's body were counted in its order; None where that is unknown.
        self.ordinal: int | None = None

    @property
    def position(self) -> int:
        """A number that grows with every id taken: it orders ids as they were taken."""
        return self._position

    def take(self, name: str) -> str:
        """Return the next free id of `name`; an id taken by another name is skipped."""
        if not self.has(name):
            self._set(name, 1)
            return name
        number = self._highest.get(name, 1) + 1
        while self.has(f"{name}_{number}"):
            number += 1
        self._set(name, number)
        return f"{name}_{number}"

    def take_explicit(self, id: str) -> str:
        """Take exactly `id`.

        Raises:
            UsageError: it is taken already, or is not a legal name.
        """
        if self.has(check_name("call (id=)", id)):
            raise UsageError(
                f'The id "{id}" is taken: an earlier call of this execution has it.',
                help="Give the call another id=, or none, to have it numbered.",
            )
        self._set(id, 1)
        return id

    def newest(self, name: str) -> str | None:
        """Return the id of `name` that was taken last; None if none was taken."""
        number = self._highest.get(name)
        if number is None:
            return None
        return name if number == 1 else f"{name}_{number}"

    def to_json(self) -> dict[str, int]:
        """Return the counters as a JSON object, a copy; no name is empty, that one is `ordinal`."""
        return dict(self._highest) if self.ordinal is None else {**self._highest, "": self.ordinal}

    @classmethod
    def from_json(cls, data: Mapping[str, int]) -> Counters:
        """Return counters that continue from the state in `data`."""
        counters = cls()
        counters._highest = {name: number for name, number in data.items() if name}
        counters._position = sum(counters._highest.values())
        counters.ordinal = data.get("")
        return counters

    def has(self, id: str) -> bool:
        """Return whether `id` was taken."""
        if id in self._highest:
            return True
        numbered = _NUMBERED.fullmatch(id)
        return numbered is not None and int(numbered[2]) <= self._highest.get(numbered[1], 1)

    def _set(self, name: str, number: int) -> None:
        self._position += number - self._highest.get(name, 0)
        self._highest[name] = number
