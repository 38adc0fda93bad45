"""Faults in front of a bucket of a real server: each is survived, or reported distinctly."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from math import inf
from unittest.mock import patch

import pytest

from kitaru.errors import EnvironmentFailure, StoreDenied, StoreUnavailable, StoreUnsuitable
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores import Store, object_store, open_store
from kitaru.stores.object_store import ObjectStore
from kitaru.wire.records import CacheHint, InvocationRecord
from tests.journal.harness import execution

from .conftest import BUCKETS
from .servers.proxy import Proxy, proxied

PAUSE_SECONDS = object_store._PAUSE_SECONDS
PASSING = ["429", "500", "503", "reset", "stall"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_PAUSE_SECONDS", 0)


@pytest.fixture
def proxy(request: pytest.FixtureRequest, behind: Callable[[str], Proxy]) -> Proxy:
    return behind(getattr(request, "param", "moto"))


@pytest.fixture
def store(proxy: Proxy) -> Iterator[Store]:
    store = open_store(f"{proxy.url}/{secrets.token_hex(4)}")
    yield store
    store.close()


@pytest.fixture
def hasty(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ObjectStore, Proxy]]:
    """The same store, half a second after which no answer counts, and a proxy of its own.

    Only what never gets an answer may use it: a busy server may need seconds for any request.
    """
    monkeypatch.setattr(object_store, "_SILENCE", timedelta(seconds=0.5))
    # The proxy may need seconds to see a request.
    monkeypatch.setattr(object_store, "_TRIES", 50)
    with proxied(proxy.server) as other:
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        with patch.object(ObjectStore, "_probe"):
            hasty = ObjectStore(store.url)
        yield hasty, other
        hasty.close()


Meet = Callable[[str, str], None]


@pytest.fixture
def meet(store: ObjectStore, proxy: Proxy, hasty: tuple[ObjectStore, Proxy]) -> Meet:
    """Return what lets the next request of a method meet a fault."""

    def meet(fault: str, method: str) -> None:
        left, patient = [fault], store._store
        met = proxy

        def on_request(seen: str, key: str) -> str:
            store._store = patient
            return left.pop() if left and seen == method else ""

        if fault.endswith("stall"):
            # Where a second request is sent before the first one is seen, both of them stall.
            store._store, met = hasty[0]._store, hasty[1]
            left *= 50
        met.fault = on_request

    return meet


everywhere = pytest.mark.parametrize("proxy", BUCKETS, indirect=True)


@everywhere
@pytest.mark.parametrize("fault", [*PASSING, *(f"after-{fault}" for fault in PASSING)])
def test_a_create_survives_a_passing_fault(store: Store, meet: Meet, fault: str) -> None:
    meet(fault, "PUT")
    created = store.create("a/b", b"mine")
    assert store.get("a/b") == b"mine"
    # After an answer that was lost, the store cannot know whose bytes are there: the journal can.
    assert created or fault.startswith("after")


@everywhere
@pytest.mark.parametrize("fault", [*PASSING, "after-short"])
def test_reads_survive_a_passing_fault(store: Store, meet: Meet, fault: str) -> None:
    value = b"1" * 100_000
    store.create("a/b", value)
    for read, expected in ((lambda: store.get("a/b"), value), (lambda: store.list("a/"), ["a/b"])):
        meet(fault, "GET")
        assert read() == expected


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("PUT", lambda store: store.create("a/c", b"1")),
        ("GET", lambda store: store.get("a/b") == b"1"),
        ("GET", lambda store: store.list("a/") == ["a/b"]),
    ],
    ids=["create", "get", "list"],
)
def test_an_answer_that_does_not_begin_is_asked_for_again(
    store: Store,
    meet: Meet,
    hasty: tuple[ObjectStore, Proxy],
    method: str,
    use: Callable[[Store], bool],
) -> None:
    store.create("a/b", b"1")
    meet("stall", method)
    assert use(store)
    assert method in dict(hasty[1].requests)


def test_a_large_value_may_take_longer_to_go_up_than_an_answer_to_begin(
    hasty: tuple[ObjectStore, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, proxy = hasty
    monkeypatch.setattr(object_store, "_TRIES", 1)
    monkeypatch.setattr(proxy, "delay", 0.7)
    with pytest.raises(StoreUnavailable):
        store.create("a/small", b"1")
    assert store.create("a/large", b"1" * object_store._LARGE_BYTES)


def test_a_record_whose_answer_was_lost_is_ones_own_and_written_once(
    store: Store, proxy: Proxy, meet: Meet
) -> None:
    journal = Journal.create(store, execution(store))
    meet("after-reset", "PUT")
    mine = InvocationRecord(
        "a", "a", "checkpoint", "m.a", "sha256:0", "completed", journal.store_document(1)
    )
    proxy.requests.clear()
    assert journal.record(mine) == mine
    assert [method for method, _ in proxy.requests if method == "PUT"] == ["PUT", "PUT"]


class Clock:
    """A clock that only pauses move; before `until`, a server answers with `status`."""

    def __init__(self, status: str, until: float) -> None:
        self.now, self.status, self.until = 0.0, status, until

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def fault(self, method: str, key: str) -> str:
        return self.status if self.now < self.until else ""


@pytest.fixture
def busy(store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    """Return what makes a server refuse for so many seconds, as its Retry-After says."""

    def begin(status: str, seconds: float) -> Clock:
        clock = Clock(status, seconds)
        monkeypatch.setattr(object_store, "_PAUSE_SECONDS", PAUSE_SECONDS)
        monkeypatch.setattr(object_store.time, "sleep", clock.sleep)
        proxy.fault = clock.fault
        proxy.requests.clear()
        return clock

    return begin


@everywhere
@pytest.mark.parametrize("status", ["429", "503"])
@pytest.mark.parametrize("after", ["", "after-"])
def test_a_store_that_is_busy_for_a_minute_is_waited_for(
    store: Store, proxy: Proxy, busy: Callable[..., Clock], status: str, after: str
) -> None:
    """The record is one's own: under the same writer token, whether the server had acted or not."""
    record_store, hint = RecordStore(store), CacheHint("e1", "a", "sha256:0", "sha256:0")
    busy(f"{after}{status}", 60)
    assert record_store.try_create("cache/a", hint)
    assert RecordStore(store).read(CacheHint, "cache/a") == hint
    assert len([method for method, _ in proxy.requests if method == "PUT"]) <= object_store._TRIES


def test_a_store_that_stays_busy_is_given_up(
    store: Store, proxy: Proxy, busy: Callable[..., Clock]
) -> None:
    clock = busy("503", inf)
    with pytest.raises(StoreUnavailable, match="too busy") as told:
        store.create("a/b", b"1")
    assert told.value.exit_code == 3 and "executions resume" in told.value.help
    assert 85 <= clock.now <= 128 and len(proxy.requests) == object_store._TRIES
    clock.until = clock.now
    assert store.get("a/b") is None


def test_retries_have_a_budget(store: Store, proxy: Proxy) -> None:
    proxy.fault = lambda method, key: "503"
    proxy.requests.clear()
    with pytest.raises(StoreUnavailable):
        store.create("a/b", b"1")
    assert len(proxy.requests) == object_store._TRIES
    proxy.fault = lambda method, key: ""
    assert store.get("a/b") is None


@everywhere
@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("500", StoreUnavailable),
        ("403", StoreDenied),
        ("400", StoreDenied),
        ("404", StoreUnsuitable),
    ],
    ids=["broken", "denied", "expired", "no bucket"],
)
def test_a_lasting_fault_is_never_absence(
    store: Store,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    error: type[EnvironmentFailure],
) -> None:
    monkeypatch.setattr(object_store, "_TRIES", 1)
    proxy.fault = lambda method, key: status
    for use in (
        lambda: store.create("a/b", b"1"),
        lambda: store.get("a/b"),
        lambda: store.get_all(["a/b"]),
        lambda: store.list("a/"),
        lambda: store.delete("a/b"),
    ):
        with pytest.raises(error):
            use()


def test_credentials_that_expire_in_mid_run_lose_nothing(store: Store, proxy: Proxy) -> None:
    assert store.create("a/1", b"1")
    proxy.fault = lambda method, key: "400"
    with pytest.raises(StoreDenied, match="credentials"):
        store.create("a/2", b"2")
    proxy.fault = lambda method, key: ""
    assert store.get_all(["a/1", "a/2"]) == [b"1", None]


@pytest.mark.parametrize("after", ["", "after-"])
def test_a_conflict_that_s3_calls_exists_is_not_an_error(
    store: Store, meet: Meet, after: str
) -> None:
    meet(f"{after}409", "PUT")
    assert create_or_read(store, "a/b", b"1") == b"1"
    assert store.get("a/b") == b"1"


@everywhere
def test_a_bucket_that_does_not_exist_is_refused(proxy: Proxy) -> None:
    with pytest.raises(StoreUnsuitable, match="no such bucket"):
        open_store(f"{proxy.url.replace('bucket', 'elsewhere')}/p")


def test_a_wrong_key_is_denied(
    behind: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = behind("azurite")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(StoreDenied, match="credentials"):
        open_store(f"{proxy.url}/p")


def test_a_server_that_overwrites_is_refused_every_time(behind: Callable[[str], Proxy]) -> None:
    proxy = behind("s3rver")
    for _ in range(2):
        with pytest.raises(StoreUnsuitable, match="ignores conditional writes"):
            open_store(f"{proxy.url}/p")


def test_a_store_that_was_probed_is_not_probed_again(store: Store, proxy: Proxy) -> None:
    proxy.requests.clear()
    open_store(store.url).close()
    ((method, key),) = proxy.requests
    assert (method, key.rpartition("/")[2]) == ("GET", "kitaru-store")


def test_prefixes_are_separate_stores(store: Store) -> None:
    store.create("a/b", b"1")
    other = open_store(f"{store.url}/q")
    assert other.get("a/b") is None
    other.close()


@everywhere
def test_whatever_else_passes_the_record_is_one(store: Store, proxy: Proxy) -> None:
    """Every fault before the first, second and third request of a write and of its reading."""
    faults = [*PASSING[1:4], "409", "after-500", "after-reset"]
    for at, fault in itertools.product(range(3), faults):
        key, seen = f"x/{at}/{fault}", itertools.count()
        proxy.fault = lambda method, _, at=at, fault=fault, seen=seen: (  # type: ignore[misc]
            fault if next(seen) == at and (method == "PUT" or fault != "409") else ""
        )
        assert create_or_read(store, key, b"first") == b"first"
        assert create_or_read(store, key, b"second") == b"first"
