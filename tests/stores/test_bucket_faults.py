"""What a bucket does wrong: each of S3's known faults, told apart or survived."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kitaru.errors import StoreDenied, StoreUnavailable, StoreUnsuitable
from kitaru.stores import Store, objects, open_store

from .s3_server import Bucket


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PAUSE_SECONDS", 0)


@pytest.fixture
def store(bucket: Bucket) -> Iterator[Store]:
    store = open_store("s3://bucket/p")
    yield store
    store.close()


def once(fault: str, method: str) -> object:
    """A fault that only the first request of a method sees."""
    left = [fault]
    return lambda seen, key: left.pop() if left and seen == method else ""


@pytest.mark.parametrize("fault", ["reset", "500", "503", "after-reset", "after-500"])
def test_a_create_survives_a_passing_fault(store: Store, bucket: Bucket, fault: str) -> None:
    bucket.fault = once(fault, "PUT")  # type: ignore[assignment]
    created = store.create("a/b", b"mine")
    assert store.get("a/b") == b"mine"
    # After an answer that was lost, the store cannot know whose bytes are there: the journal can.
    assert created or fault.startswith("after")


@pytest.mark.parametrize("fault", ["reset", "500", "503"])
def test_reads_survive_a_passing_fault(store: Store, bucket: Bucket, fault: str) -> None:
    store.create("a/b", b"1")
    for read in (lambda: store.get("a/b"), lambda: store.list("a/")):
        bucket.fault = once(fault, "GET")  # type: ignore[assignment]
        assert read()


@pytest.mark.parametrize(
    ("status", "error"), [("500", StoreUnavailable), ("403", StoreDenied), ("404", StoreUnsuitable)]
)
def test_a_lasting_fault_is_never_absence(
    store: Store, bucket: Bucket, status: str, error: type[Exception]
) -> None:
    bucket.fault = lambda method, key: status
    for use in (
        lambda: store.create("a/b", b"1"),
        lambda: store.get("a/b"),
        lambda: store.get_all(["a/b"]),
        lambda: store.delete("a/b"),
    ):
        with pytest.raises(error):
            use()


def test_a_conflict_that_s3_calls_exists_is_not_an_error(store: Store, bucket: Bucket) -> None:
    bucket.fault = once("409", "PUT")  # type: ignore[assignment]
    assert not store.create("a/b", b"1")
    assert store.get("a/b") is None
    assert store.create("a/b", b"1")


def test_a_bucket_that_overwrites_is_refused_every_time(bucket: Bucket) -> None:
    bucket.honours_create = False
    for _ in range(2):
        with pytest.raises(StoreUnsuitable, match="overwrite"):
            open_store("s3://bucket/p")


def test_a_bucket_that_does_not_exist_is_refused(bucket: Bucket) -> None:
    bucket.fault = lambda method, key: "404"
    with pytest.raises(StoreUnsuitable, match="no such bucket"):
        open_store("s3://bucket/p")


def test_a_store_that_was_probed_is_not_probed_again(store: Store, bucket: Bucket) -> None:
    bucket.requests.clear()
    open_store("s3://bucket/p").close()
    assert bucket.requests == [("GET", "p/kitaru-store")]


def test_prefixes_are_separate_stores(store: Store, bucket: Bucket) -> None:
    store.create("a/b", b"1")
    other = open_store("s3://bucket/p/q")
    assert other.get("a/b") is None
    other.close()
