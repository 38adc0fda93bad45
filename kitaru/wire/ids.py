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

# Crockford's alphabet: in ASCII order, without letters that are easily mistaken for digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_EXECUTION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_NUMBERED = re.compile(r"(.+)_([2-9]|[1-9][0-9]+)", re.ASCII)

_lock = threading.Lock()
_last_ms = 0


def new_execution_id() -> str:
    """Return a new execution id: eight random characters, a dash, nine characters of time.

    The random characters come first, so that concurrent executions are spread over the whole range
    of keys: a bucket is split into partitions by key range.

    Example:
        >>> len(new_execution_id())
        18
    """
    moment, chance = _moment_and_chance()
    return f"{chance}-{moment}"


def new_ascending_id() -> str:
    """Return a new id that sorts by creation time; the ids of a process always ascend."""
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
    """Return `text` if it is a valid execution id.

    Raises:
        UsageError: it is not 1 to 63 lower-case letters, digits and dashes, or starts with a dash.
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
    """Return the idempotency key of an invocation, which is the same for all its attempts."""
    return canonical.digest([exec_id, invocation]).removeprefix("sha256:")[:32]


def execution_id_of(run: str) -> str:
    """Return the execution id for an orchestrator's name of a run.

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
    """Generates invocation ids in program order: `draft`, `draft_2`, `draft_3`…

    Its state is part of the execution: frames carry it as JSON, so that ids never depend on where
    the flow was cut. It stores the highest number used for each name. Not safe for concurrent
    calls.

    Example:
        >>> counters = Counters()
        >>> counters.take("draft"), counters.take("draft")
        ('draft', 'draft_2')
    """

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}
        self._position = 0
        # Number of calls of the flow's body in program order, or None if that order is unknown.
        self.ordinal: int | None = None

    @property
    def position(self) -> int:
        """A number that increases with every id, and so orders the ids."""
        return self._position

    def take(self, name: str) -> str:
        """Return the next free id of `name`; skip an id that another name has used."""
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
            UsageError: it is already used, or is not a valid name.
        """
        if self.has(check_name("call (id=)", id)):
            raise UsageError(
                f'The id "{id}" is taken: an earlier call of this execution has it.',
                help="Give the call another id=, or none, to have it numbered.",
            )
        self._set(id, 1)
        return id

    def newest(self, name: str) -> str | None:
        """Return the last id of `name`, or None if it has none."""
        number = self._highest.get(name)
        if number is None:
            return None
        return name if number == 1 else f"{name}_{number}"

    def to_json(self) -> dict[str, int]:
        """Return a copy of the counters as a JSON object; the key "" contains `ordinal`."""
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
        """Return whether `id` is used."""
        if id in self._highest:
            return True
        numbered = _NUMBERED.fullmatch(id)
        return numbered is not None and int(numbered[2]) <= self._highest.get(numbered[1], 1)

    def _set(self, name: str, number: int) -> None:
        self._position += number - self._highest.get(name, 0)
        self._highest[name] = number
