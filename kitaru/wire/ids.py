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

# Maximum length of the key of an idempotent start, in characters.
MAX_KEY = 200

# Crockford's alphabet: in ASCII order, without letters that are easily mistaken for digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_EXECUTION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}[0-9:.]*Z"
_SCHEDULED = re.compile(rf"schedule:([a-z0-9][a-z0-9-]{{0,39}}):({_INSTANT})", re.ASCII)
_NUMBERED = re.compile(r"(.+)_([2-9]|[1-9][0-9]+)", re.ASCII)

# What no id of a call starts with: a scope, and the numbers that `Counters.restart` has dropped.
_SCOPE = "."
_DROPPED = ".."

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


def keyed_execution_id(flow: str, key: str) -> str:
    """Return the execution id that a key always stands for, so the store needs no record of it.

    Raises UsageError if the key is empty or longer than 200 characters.
    """
    if not 0 < len(key) <= MAX_KEY:
        raise UsageError(
            f"A key of {len(key)} characters cannot identify a start.",
            help=f"Use 1 to {MAX_KEY} characters that identify what is started, such as order-7.",
        )
    return hashlib.sha256(f"{flow}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def child_execution_id(exec_id: str, invocation: str) -> str:
    """Return the id of the child that an invocation starts, which is the same for all attempts.

    It looks like other ids, but its second part is no time.
    """
    digest = hashlib.sha256(canonical.dumps([exec_id, invocation])).digest()
    text = "".join(_ALPHABET[byte & 31] for byte in digest[:17])
    return f"{text[:8]}-{text[8:]}"


def triggered_execution_id(flow: str, event: str) -> str:
    """Return the id of the execution of a flow that an event starts, by the event's digest."""
    return child_execution_id(f"event {event}", flow)


def scheduled_execution_id(schedule: str, instant: str) -> str:
    """Return the id of the execution that a schedule starts at an instant, to the minute.

    Example:
        >>> scheduled_execution_id("report", "2026-12-01T01:00:00Z")
        'report-20261201t0100z'
    """
    compact = instant[:16].replace("-", "").replace(":", "").lower()
    return f"{schedule}-{compact}z"


def named_execution_id(text: str) -> str:
    """Return the execution id that a run was started with.

    A service that starts runs by schedule can only pass on the instant as it writes it. So it
    passes `schedule:NAME:INSTANT`, which names the same execution however often it starts.

    Raises:
        UsageError: it is not a valid execution id.

    Example:
        >>> named_execution_id("schedule:report:2026-12-01T01:00:00Z")
        'report-20261201t0100z'
    """
    found = _SCHEDULED.fullmatch(text)
    return check_execution_id(scheduled_execution_id(found[1], found[2]) if found else text)


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


def is_numbered(id: str, name: str) -> bool:
    """Return whether `Counters` may generate `id` for `name`.

    Example:
        >>> is_numbered("draft_2", "draft"), is_numbered("draft_final", "draft")
        (True, False)
    """
    numbered = _NUMBERED.fullmatch(id)
    return id == name or (numbered is not None and numbered[1] == name)


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
        self._parts: dict[str, int] = {}
        self._taken_parts: set[str] = set()
        self._lock_of_parts = threading.Lock()
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

    def take_part(self, prefix: str, name: str) -> str:
        """Return the next part `name` of a path below `prefix`: `worker`, `worker_2`…

        Parts and ids are numbered separately.
        """
        with self._lock_of_parts:
            number = self._parts.get(prefix + name, 0) + 1
            while self._is_part(path := prefix + _with_number(name, number)):
                number += 1
            self._parts[prefix + name] = number
            self._taken_parts.add(path)
        return path.removeprefix(prefix)

    def take_scope(self, prefix: str, name: str, *, is_key: bool) -> str:
        """Return the path of a scope below `prefix`: exactly `name` if it is a key, else the next.

        A scope may be opened again after a cut, so frames contain their paths: as ids with a dot in
        front.

        Raises:
            UsageError: the key is already taken.
        """
        if is_key and self._is_part(prefix + name):
            raise _key_taken(prefix, name, "scope")
        path = self.take(_SCOPE + prefix + name)
        while path.removeprefix(_SCOPE) in self._taken_parts:
            path = self.take(_SCOPE + prefix + name)
        return path.removeprefix(_SCOPE)

    def _is_part(self, path: str) -> bool:
        return path in self._taken_parts or self.has(_SCOPE + path)

    def take_key(self, prefix: str, name: str) -> str:
        """Take exactly the id `name` below `prefix`.

        Raises:
            UsageError: it is already taken.
        """
        id = prefix + name
        if self.has(id):
            raise _key_taken(prefix, name, "call")
        self._set(id, 1)
        return id

    def restart(self, prefix: str) -> None:
        """Forget all ids and parts below `prefix`: the code there starts again."""
        for id in [id for id in self._highest if id.startswith((prefix, _SCOPE + prefix))]:
            # Later calls have higher positions, in this process and after a cut.
            dropped = self._highest.pop(id)
            self._highest[_DROPPED] = self._highest.get(_DROPPED, 0) + dropped
        with self._lock_of_parts:
            self._taken_parts = {p for p in self._taken_parts if not p.startswith(prefix)}
            self._parts = {p: n for p, n in self._parts.items() if not p.startswith(prefix)}

    def newest(self, name: str) -> str | None:
        """Return the last id of `name`, or None if it has none."""
        number = self._highest.get(name)
        if number is None:
            return None
        return name if number == 1 else f"{name}_{number}"

    def ids_of(self, name: str) -> list[str]:
        """Return all ids of `name` so far, in every place of the flow."""
        places = [one for one in [*self._highest] if one.rpartition(".")[2] == name]
        return [
            _with_number(one, number)
            for one in places
            for number in range(1, self._highest.get(one, 0) + 1)
        ]

    def to_json(self) -> dict[str, int]:
        """Return a copy of the counters as a JSON object; the key "" contains `ordinal`.

        A key with a dot at its end is a part of a path: `worker.` for the tasks of `worker`. No
        task outlives a frame, so the parts below such a part are left out.
        """
        parts = {f"{part}.": n for part, n in self._parts.items() if "." not in part}
        found = {**self._highest, **parts}
        return found if self.ordinal is None else {**found, "": self.ordinal}

    @classmethod
    def from_json(cls, data: Mapping[str, int]) -> Counters:
        """Return counters that continue from the state in `data`."""
        counters = cls()
        names = {name: number for name, number in data.items() if name}
        counters._highest = {name: n for name, n in names.items() if name[-1] != "."}
        counters._parts = {name[:-1]: n for name, n in names.items() if name[-1] == "."}
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


def _with_number(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def _key_taken(prefix: str, name: str, what: str) -> UsageError:
    return UsageError(
        f'The key "{name}" is taken: an earlier {what} in {prefix.rstrip(".") or "the flow"} '
        "has it.",
        help="A key names one call of its scope, such as the id of a tool call. Open a scope for "
        "each run of an agent, or leave the key out to have the call numbered.",
    )
