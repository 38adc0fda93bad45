"""Listing and removing executions in a bucket: how often it is asked, and that whole ones go."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from kitaru.runtime.executions.gc import collect
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store, open_store
from kitaru.wire.records import EndRecord, InvocationRecord
from kitaru.wire.times import ago
from tests.journal.harness import LARGE, execution

from .conftest import BUCKETS
from .servers.proxy import Proxy


@pytest.fixture
def proxy(request: pytest.FixtureRequest, behind: Callable[[str], Proxy]) -> Proxy:
    return behind(getattr(request, "param", "moto"))


@pytest.fixture
def store(proxy: Proxy) -> Iterator[Store]:
    store = open_store(f"{proxy.url}/{secrets.token_hex(4)}")
    yield store
    store.close()


def begin(store: Store, exec_id: str, days: int) -> Journal:
    at = ago(timedelta(days=days))
    return Journal.create(store, replace(execution(store, exec_id=exec_id), started_at=at))


def test_a_page_is_a_list_and_four_reads_for_each_that_runs(store: Store, proxy: Proxy) -> None:
    asked = []
    for first in (0, 30):
        for number in range(first, first + 30):
            begin(store, f"e{number}", days=100 - number)
        proxy.requests.clear()
        assert len(list_executions(store, limit=20)) == 20
        asked.append(len(proxy.requests))
    # Its state, the next state, its end, and its own record, which says who would continue it.
    assert asked == [1 + 4 * 20] * 2


@pytest.mark.parametrize("proxy", BUCKETS, indirect=True)
def test_old_executions_are_removed_from_a_bucket(store: Store) -> None:
    for exec_id, days in (("old", 100), ("young", 10)):
        journal = begin(store, exec_id, days)
        value = journal.store_document(LARGE + exec_id)
        journal.record(InvocationRecord("a", "a", "checkpoint", "m.a", "", "completed", value))
        journal.finish(EndRecord("completed", value, journal.execution.started_at))
    removed = list(collect(store, timedelta(days=90)))
    # Its record, value and invocation, two states with a summary each, and the end, which stays.
    assert [(one.exec_id, one.objects) for one in removed] == [("old", 8)]
    assert store.list("x/old/") == ["x/old/end"]
    (young,) = list_executions(store)
    assert young["exec_id"] == "young"
    (record,) = Journal.open(store, "young").invocations()
    assert record.value is not None and journal.fetch(record.value) == LARGE + "young"
