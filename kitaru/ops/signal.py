"""Send a signal to an execution, which reads it with `kitaru.inbox`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.errors import NotFound, StateError, UsageError
from kitaru.runtime.engine.waits import not_json
from kitaru.runtime.journal.inboxes import create, signals
from kitaru.runtime.journal.journal import Journal
from kitaru.wire import canonical, keys
from kitaru.wire.actors import actor
from kitaru.wire.limits import MAX_SIGNAL_BYTES
from kitaru.wire.names import check_name
from kitaru.wire.records import SignalRecord
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def signal(store: Store, exec_id: str, inbox: str, value: Any) -> SignalRecord:
    """Send JSON to an inbox of an execution, and return the signal with its number.

    The signal is stored before this function returns. The execution reads it at its next
    `kitaru.inbox`, also after a wait, a retry, or in another process. A call that raises
    EnvironmentFailure may have sent the signal.

    Raises:
        NotFound: the execution does not exist.
        StateError: the execution has ended, or it ended before it read the signal.
        UsageError: the name is not valid, or the value is not JSON or too long.

    Example:
        signal(store, exec_id, "steer", {"focus": "prices"}).number
    """
    check_name("inbox", inbox)
    if reason := not_json(value, "value"):
        raise UsageError(
            f"The signal cannot be sent: {reason}.",
            help="Use texts, finite numbers, true, false, null, lists and objects of those.",
        )
    if (size := len(canonical.dumps(value))) > MAX_SIGNAL_BYTES:
        raise UsageError(
            f"The signal cannot be sent: it has {size:,} bytes, more than {MAX_SIGNAL_BYTES:,}.",
            help="Store the value elsewhere, and send its address.",
        )
    journal = _opened(store, exec_id)
    if journal is not None:
        _check_open(journal)
    sent = create(store, exec_id, SignalRecord(inbox, 0, value, now(), actor()))
    journal = journal or _opened(store, exec_id)
    if journal is not None and journal.end() is not None and not _is_read(journal, sent):
        _check_open(journal)
    return sent


def _opened(store: Store, exec_id: str) -> Journal | None:
    """Return the journal of an execution, None if its first step has not begun yet."""
    try:
        return Journal.open(store, exec_id)
    except NotFound:
        if store.get(keys.launch(exec_id)) is None:
            raise
    return None


def _check_open(journal: Journal) -> None:
    end = journal.end()
    if end is not None:
        raise StateError(
            f"The execution {journal.exec_id} is {end.status}; it reads no more signals.",
            help=hints.get_help(journal),
        )


def _is_read(journal: Journal, sent: SignalRecord) -> bool:
    place = (sent.inbox, sent.number)
    return any((one.inbox, one.number) == place and one.read_by for one in signals(journal))
