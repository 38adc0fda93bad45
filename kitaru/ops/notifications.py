"""Notifications: tell people when an execution waits, fails or exceeds a cost.

    hint news/<execution>/<event>              before the record of what happened
    x/<execution>/notice/<event>/<channel>/
        try/000001                             created by the process that sends now
        failed/000001                          it was not accepted; with the pause until the next
        end                                    delivered, or given up

A dispatcher reads the record that a hint announces, sends a message through each channel of its
settings that wants it, and deletes the hint when all are at their end. It may be killed anywhere:

- A try is created before the message is sent, so that only one of several dispatchers sends.
- A try without an end, whose process was killed, counts for a minute. Then the next try is made.
  The receiver may get the message twice, with the same id.
- What is not true any more is not sent: the wait was answered, or the failed execution continues.

A dispatcher without channels leaves the hints to those that have some. Before one with channels
deletes a hint, it sends the event that flows want; see `kitaru.ops.execution_events`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kitaru import hints
from kitaru.config import setting
from kitaru.errors import EnvironmentFailure, KitaruError, NotFound, UsageError
from kitaru.ops import channels as configured
from kitaru.ops.answer_links import link_for, link_key
from kitaru.ops.channels import Channel, ChannelInfo, Refused
from kitaru.ops.execution_events import ExecutionEvents
from kitaru.ops.messages import Event, Message, shown, shown_line
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.journal import launches, rounds
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_end
from kitaru.wire import keys
from kitaru.wire.records import NoticeRecord, StateRecord, WaitRequest
from kitaru.wire.redaction import redacted
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import now, seconds_since

if TYPE_CHECKING:
    from kitaru.stores.base import Store

# Hints that are read in one pass.
_MOST = 10_000
# Who tries again after these pauses gives up after about two days.
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 3_600.0
MOST_TRIES = 56
# A process that sends is killed, or finishes within this time.
_CLAIM_SECONDS = 60.0
# A failure that is older is no news, for example when the first channel is defined.
_NEWS_SECONDS = 3 * 24 * 3_600.0


class Notification(Struct):
    """A notification of an execution.

    Attributes:
        exec_id: the execution.
        event: `waiting`, `escalated`, `failed` or `cost`.
        subject: the wait, or the amount in dollars; empty for a failure.
        channel: the channel; empty if no dispatcher has tried yet.
        status: `pending`, `delivered` or `given up`.
        tries: number of tries.
        at: when it was last tried, or delivered; empty if it was not tried.
        error: why the last try failed; empty otherwise.
    """

    exec_id: str
    event: str
    subject: str
    channel: str
    status: str
    tries: int
    at: str
    error: str


class Sent(Struct):
    """A try of a dispatcher: `status` is `delivered`, `failed` or `given up`."""

    exec_id: str
    event: str
    channel: str
    status: str
    error: str = ""


class News(Struct):
    """Something that happened, and that is still true. `to` is the addressee of an escalation."""

    exec_id: str
    flow: str
    key: str
    message: Message
    to: str = ""
    request: WaitRequest | None = None
    number: int = 0


# The channel has its end, or does not want the event.
_NEVER = float("inf")

_EVENTS: Mapping[str, Event] = {
    "w": "waiting", "e": "escalated", "f": "failed", "l": "failed", "c": "cost",
}  # fmt: skip


@dataclass
class Notifier:
    """Sends what is due through the channels of this process.

    Attributes:
        store: the store.
        channels: the channels.
        report: called after each try.
        claim_seconds: how long the try of another process counts.
    """

    store: Store
    channels: Sequence[Channel]
    report: Callable[[Sent], object] = lambda sent: None
    claim_seconds: float = _CLAIM_SECONDS
    _records: RecordStore = field(init=False)
    _events: ExecutionEvents = field(init=False)
    # By hint and channel: when to look again, on this process's clock.
    _later: dict[tuple[str, str], float] = field(default_factory=dict)
    # By channel: until when it accepts nothing, and the pause that led there.
    _busy: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._records = RecordStore(self.store)
        self._events = ExecutionEvents(self.store)

    def look(self) -> int:
        """Send what is due, once; return the number of tries. Never raises KitaruError."""
        try:
            listed = self.store.list(keys.NEWS, limit=_MOST) if self.channels else []
            # After the list: what is wanted by then is sent before a hint is deleted.
            self._events.refresh()
        except KitaruError as error:
            self.report(Sent("", "", "", "failed", error.message))
            return 0
        known = {*listed}
        self._later = {one: at for one, at in self._later.items() if one[0] in known}
        ready = [key for key in listed if self._is_ready(key)]
        if not ready:
            return 0
        found = list[News]()
        for key in ready:
            try:
                news = self._read(key)
            except KitaruError as error:
                self._wait(key, _FIRST_PAUSE)
                self.report(Sent(keys.news_parts(key)[0], "", "", "failed", error.message))
                continue
            if news is not None:
                found.append(news)
        with ThreadPoolExecutor(len(self.channels)) as pool:
            tried = list(pool.map(lambda one: self._send_all(one, found), self.channels))
        for news in found:
            wanting = self._wanting(news)
            if all(self._later.get((news.key, one.name)) == _NEVER for one in wanting):
                try:
                    self._drop(news.key)
                except KitaruError as error:
                    for channel in self.channels:
                        self._later[news.key, channel.name] = time.monotonic() + _FIRST_PAUSE
                    self.report(Sent(news.exec_id, "", "", "failed", error.message))
        return sum(tried)

    def _drop(self, key: str) -> None:
        """Delete a hint, after its event was sent to the flows that want it."""
        self._events.send(key)
        rounds.drop(self.store, key)

    def _is_ready(self, key: str) -> bool:
        moment = time.monotonic()
        return any(
            moment >= self._later.get((key, one.name), 0.0)
            and moment >= self._busy.get(one.name, (0.0, 0.0))[0]
            for one in self.channels
        )

    def _wait(self, key: str, seconds: float) -> None:
        for one in self.channels:
            self._later.setdefault((key, one.name), time.monotonic() + seconds)

    def _read(self, key: str) -> News | None:
        """Return what a hint announces; None if nothing is to be sent now. Drop a hint for good."""
        found = _news(self.store, key)
        if isinstance(found, News):
            return found
        if found == "over":
            self._drop(key)
        else:
            # Its writer is about to write the record, or was killed before.
            self._wait(key, _FIRST_PAUSE)
        return None

    def _wanting(self, news: News) -> list[Channel]:
        if news.to and any(one.name == news.to for one in self.channels):
            return [one for one in self.channels if one.wants("escalated", news.flow, news.to)]
        event = news.message.event
        return [one for one in self.channels if one.wants(event, news.flow)]

    def _send_all(self, channel: Channel, found: Sequence[News]) -> int:
        tries = 0
        for news in found:
            place = news.key, channel.name
            if channel not in self._wanting(news):
                self._later[place] = _NEVER
                continue
            if time.monotonic() < self._busy.get(channel.name, (0.0, 0.0))[0]:
                break
            if time.monotonic() < self._later.get(place, 0.0):
                continue
            try:
                sent = self._send(channel, news)
            except KitaruError as error:
                # Such as a store that cannot be reached for a while.
                self._later[place] = time.monotonic() + _FIRST_PAUSE
                sent = Sent(news.exec_id, news.message.event, channel.name, "failed", error.message)
            if sent is not None:
                tries += 1
                self.report(sent)
        return tries

    def _send(self, channel: Channel, news: News) -> Sent | None:
        """Send a message unless another process does or did; return None without a try."""
        event, place = keys.news_parts(news.key)[1], (news.key, channel.name)
        home = keys.notice(news.exec_id, event, channel.name)
        if self._records.read(NoticeRecord, keys.notice_end(home)) is not None:
            self._later[place] = _NEVER
            return None
        number, pause = self._next_try(home)
        if pause > 0:
            self._later[place] = time.monotonic() + pause
            return None
        made = NoticeRecord(event, channel.name, "trying", number, now())
        if not self._records.try_create(keys.notice_try(home, number), made):
            self._later[place] = time.monotonic() + self.claim_seconds
            return None
        error, asked, is_busy = "", 0.0, False
        try:
            configured.send(channel, _message_for(channel, news))
        except Refused as refused:
            error, asked, is_busy = str(refused), refused.pause, refused.is_busy
        except (UsageError, EnvironmentFailure) as failure:
            error, is_busy = failure.message, True
        if not error:
            self._busy.pop(channel.name, None)
            self._end(home, event, channel, "delivered", number)
            self._later[place] = _NEVER
            return Sent(news.exec_id, news.message.event, channel.name, "delivered")
        pause = min(_LONGEST_PAUSE, max(asked, _FIRST_PAUSE * 2 ** min(number - 1, 20)))
        failed = NoticeRecord(event, channel.name, "failed", number, now(), error, pause)
        self._records.write(keys.notice_failure(home, number), failed)
        if is_busy:
            _, last = self._busy.get(channel.name, (0.0, _FIRST_PAUSE / 2))
            held = min(_LONGEST_PAUSE, max(asked, 2 * last))
            self._busy[channel.name] = time.monotonic() + held, held
        if number >= MOST_TRIES:
            self._end(home, event, channel, "given up", number, error)
            self._later[place] = _NEVER
            return Sent(news.exec_id, news.message.event, channel.name, "given up", error)
        self._later[place] = time.monotonic() + pause
        return Sent(news.exec_id, news.message.event, channel.name, "failed", error)

    def _next_try(self, home: str) -> tuple[int, float]:
        """Return the number of the next try, and the seconds until it is due."""
        number = len(self.store.list(f"{home}try/"))
        while True:
            last = self._records.read(NoticeRecord, keys.notice_try(home, number + 1))
            if last is None:
                break
            number += 1
        if number == 0:
            return 1, 0.0
        failed = self._records.read(NoticeRecord, keys.notice_failure(home, number))
        if failed is not None:
            return number + 1, failed.pause - seconds_since(failed.at)
        trying = self._records.read(NoticeRecord, keys.notice_try(home, number))
        begun = seconds_since(trying.at) if trying is not None else 0.0
        # The clock of its process may be ahead.
        return number + 1, min(self.claim_seconds, self.claim_seconds - begun)

    def _end(
        self, home: str, event: str, channel: Channel, status: Any, number: int, error: str = ""
    ) -> None:
        made = NoticeRecord(event, channel.name, status, number, now(), error)
        self._records.write(keys.notice_end(home), made)


def notify_of(store: Store, report: Callable[[Sent], object]) -> Notifier:
    """Return what sends notifications through the channels of the settings in force.

    Raises UsageError if a channel is not valid.
    """
    return Notifier(store, configured.channels(), report)


def list_channels() -> list[ChannelInfo]:
    """Return the channels of the settings in force, by name; raise UsageError for a wrong one."""
    return [one.shown() for one in configured.channels()]


def send_test(name: str) -> Sent:
    """Send a test message through a channel now; return whether it was accepted.

    Raises:
        NotFound: there is no such channel.
        UsageError: the channel, or the value of a secret, is not valid.
        EnvironmentFailure: a secret cannot be read.

    Example:
        send_test("reviewers").status
    """
    found, moment = configured.channel(name), now()
    id = _digest("test", name, moment)
    text = "Notifications of this channel arrive."
    link, data = _service(), {"channel": name}
    made = Message(id, "test", moment, "A test of Kitaru", text, {}, link, "Open Kitaru", data)
    try:
        configured.send(found, made)
    except Refused as refused:
        return Sent("", "test", name, "failed", str(refused))
    return Sent("", "test", name, "delivered")


def list_notifications(store: Store, exec_id: str | None = None) -> list[Notification]:
    """Return the notifications that are pending; with an execution, also those at their end.

    Raises:
        NotFound: there is no such execution.
        EnvironmentFailure: the store cannot be read.

    Example:
        [one for one in list_notifications(store) if one.error]
    """
    if exec_id is None:
        listed = store.list(keys.NEWS, limit=_MOST)
        return [one for key in listed for one in _of_event(store, *keys.news_parts(key)[:2])]
    whole = execution_id(store, exec_id)
    events = {keys.news_parts(key)[1] for key in store.list(keys.news(whole))}
    events |= {key.split("/")[3] for key in store.list(keys.notices(whole))}
    return [one for event in sorted(events) for one in _of_event(store, whole, event)]


def _of_event(store: Store, exec_id: str, event: str) -> list[Notification]:
    """Return the notifications of an event, one for each channel that was tried."""
    records = RecordStore(store)
    _, _, kind, subject = keys.news_parts(f"{keys.news(exec_id)}{event}")
    name = _EVENTS.get(kind, kind)
    subject = _subject(kind, subject)
    listed = store.list(f"{keys.notices(exec_id)}{event}/")
    found = list[Notification]()
    for channel in sorted({key.split("/")[4] for key in listed}):
        home = keys.notice(exec_id, event, channel)
        steps = records.read_all(NoticeRecord, [key for key in listed if key.startswith(home)])
        last = max(steps, key=lambda one: (one.number, _ORDER.index(one.status)))
        status = last.status if last.status in ("delivered", "given up") else "pending"
        found.append(
            Notification(exec_id, name, subject, channel, status, last.number, last.at, last.reason)
        )
    return found or [Notification(exec_id, name, subject, "", "pending", 0, "", "")]


_ORDER = ("trying", "failed", "delivered", "given up")


def _subject(kind: str, subject: str) -> str:
    if kind in ("w", "e"):
        return subject.rpartition("-")[0]
    return keys.unescaped(subject) if kind == "c" else ""


def _message_for(channel: Channel, news: News) -> Message:
    """Return the message as a channel gets it: with its id, and with a link to answer if it may.

    Raises UsageError or EnvironmentFailure if the secret of links has no value.
    """
    message = replace(news.message, id=_digest(news.key, channel.name))
    key = link_key() if channel.answer_links and news.request is not None else None
    if key is None or news.request is None:
        return message
    token = link_for(
        key, news.exec_id, news.request, news.number, to=channel.name, hours=channel.link_hours
    )
    return replace(message, link=f"{_service()}/answer/{token}")


def _service() -> str:
    return str(setting("service_url").value or "").rstrip("/")


def _digest(*parts: str) -> str:
    return f"msg_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def _news(store: Store, key: str) -> News | str:
    """Return what a hint announces: `over` if it is not true any more, `later` if not yet."""
    exec_id, _, kind, subject = keys.news_parts(key)
    records = RecordStore(store)
    written = store.get(key)
    if written is None or store.get(keys.garbage(exec_id)) is not None:
        return "over"
    is_old = seconds_since(written.decode("ascii")) > _NEWS_SECONDS
    if kind == "l" and store.get(keys.execution(exec_id)) is None:
        launch = launches.recall(store, exec_id)
        return "later" if launch is None else _lost(store, key, launch.flow, None, is_old)
    try:
        journal = Journal.open(store, exec_id)
    except NotFound:
        return "over" if is_old else "later"
    if kind in ("w", "e"):
        found = _asked(journal, key, kind, subject)
        return "over" if found == "later" and is_old else found
    if is_old:
        return "over"
    if kind == "f":
        return _failed(journal, records, key, int(subject))
    if kind == "l":
        return _lost(store, key, journal.execution.flow, journal, is_old)
    if kind == "c":
        return _cost(journal, key, keys.unescaped(subject))
    # An event of a later release.
    return "later"


def _asked(journal: Journal, key: str, kind: str, subject: str) -> News | str:
    name, _, digits = subject.rpartition("-")
    number, records = int(digits), RecordStore(journal.store)
    if journal.end() is not None or journal.invocation(name) is not None:
        return "over"
    request, next_answer = journal.wait_request(name), journal.next_answer(name)
    if request is None or (kind == "w" and next_answer < number):
        return "later"
    if rounds.effective_answer(records, journal.exec_id, name) is not None:
        return "over"
    if (kind == "w" and next_answer > number) or journal.state().status == "failed":
        return "over"
    to, what = "", "waits for an answer"
    if kind == "e":
        entry = next((one for one in journal.escalations(request) if one.number == number), None)
        if entry is None:
            return "later"
        to, what = entry.to, f"still waits for an answer ({shown_line(entry.to)})"
    refused = journal.refused(name)
    facts = {"Wait": name}
    if request.deadline:
        facts["Answer before"] = f"{request.deadline[:16].replace('T', ' ')} UTC"
    if refused:
        facts["The last answer was rejected"] = shown_line(refused)
    data = {
        "wait": name,
        "question": redacted(request.question),
        "schema": request.schema,
        "asked_at": request.asked_at,
        "deadline": request.deadline,
        "refused": refused,
        "escalated_to": to,
    }
    page = f"inbox/{journal.exec_id}/{quote(name, safe='')}"
    command = hints.input_help(journal, name)
    made = _made(journal, key, what, request.question, facts, data, page, "Answer", command)
    return replace(made, to=to, request=request, number=next_answer)


def _failed(journal: Journal, records: RecordStore, key: str, number: int) -> News | str:
    state = records.read(StateRecord, keys.state(journal.exec_id, number))
    if state is None:
        return "over" if read_end(records, journal.exec_id) is not None else "later"
    if state.status != "failed" or journal.state() != state:
        return "over"
    error = state.error
    text = "" if error is None else f"{error.type.rpartition('.')[2]}: {error.message}"
    facts = {} if error is None or not error.invocation else {"At": shown_line(error.invocation)}
    data = {
        "error": None
        if error is None
        else {
            "type": error.type,
            "message": redacted(error.message),
            "invocation": error.invocation,
        }
    }
    return _made(
        journal, key, "failed", text, facts, data, f"executions/{journal.exec_id}",
        "See why", hints.get_help(journal),
    )  # fmt: skip


def _lost(store: Store, key: str, flow: str, journal: Journal | None, is_old: bool) -> News | str:
    exec_id, _, _, subject = keys.news_parts(key)
    records = RecordStore(store)
    found = rounds.newest_round(records, exec_id)
    if is_old or read_end(records, exec_id) is not None or found.number != int(subject):
        return "over"
    text = f"Its run ended without a word {rounds.MOST_LOST + 1} times in a row."
    data = {"error": {"type": "", "message": text, "invocation": ""}}
    located = journal or _Unbegun(store, exec_id)
    return _made(
        located, key, "stopped", text, {}, data, f"executions/{exec_id}", "See the execution",
        hints.get_help(located), flow=flow,
    )  # fmt: skip


def _cost(journal: Journal, key: str, usd: str) -> News | str:
    effort = journal.effort()
    facts = (
        {"Cost so far": f"${effort.cost:,.2f}", "Tokens": f"{effort.tokens:,}"}
        if effort.cost
        else {}
    )
    data = {"usd": float(usd), "cost": effort.cost, "tokens": effort.tokens}
    return _made(
        journal, key, f"has cost more than ${float(usd):,.2f}", "", facts, data,
        f"executions/{journal.exec_id}", "See the execution", hints.get_help(journal),
    )  # fmt: skip


class _Unbegun(Struct):
    """An execution without a record."""

    store: Store
    exec_id: str


def _made(
    of: Journal | _Unbegun, key: str, what: str, text: str, facts: Mapping[str, str],
    data: Mapping[str, Any], page: str, action: str, command: str, *, flow: str = "",
) -> News:  # fmt: skip
    exec_id, _, kind, _ = keys.news_parts(key)
    about = ""
    if isinstance(of, Journal):
        flow, about = of.execution.flow, of.summary().title
    link = f"{_service()}/{page}" if _service() else ""
    lines = {
        "Flow": shown_line(flow),
        "Execution": exec_id,
        **({"About": shown_line(about)} if about else {}),
        **facts,
        **({} if link else {"Command": command.removeprefix("See: ")}),
    }
    event = _EVENTS[kind]
    content = {"exec_id": exec_id, "flow": flow, "about": about, **data}
    title = shown_line(f"{flow} {what}")
    message = Message("", event, now(), title, shown(text), lines, link, action, content)
    return News(exec_id, flow, key, message)
