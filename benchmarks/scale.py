"""A million executions a day in one bucket: requests by kind and range of keys, partitions, cost.

Real: the requests of an execution, of a page of the listing and of a removal. They are counted
while Kitaru's own code makes them, in a memory store that counts like a bucket. Simulated: a day's
executions send those requests under ids of their own, and a model of S3 splits the range of keys
under load. Computed: prices, from the counts. `docs/scale.md` contains the results.

    python3 dev.py bench scale
"""

from __future__ import annotations

import builtins
import random
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import patch

from checkpoints import check
from common import Line

import kitaru
from kitaru.runtime.executions.gc import collect
from kitaru.runtime.executions.listing import list_executions
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import ids, keys

PER_DAY = 1_000_000
AT_ONCE = 10_000
# A short execution, to compute requests and costs, and a long one for the partitions.
CHECKPOINTS, MANY = 20, 100
# The load of the busiest minute of a day, as a multiple of the average.
PEAK = 10
# S3 documents at least these rates for each partition; a comment by AWS there mentions 30 to 60
# minutes for a split. GCS documents a bucket's initial capacity, and growth by ranges of keys.
WRITES, READS = 3_500, 5_500
SPLIT = timedelta(minutes=30)
SPLITS = 6
WINDOW = 1.0
PAGE = 1_000
KINDS = ("PUT", "GET", "LIST", "DELETE")


@dataclass(frozen=True)
class Prices:
    """US dollars: for 1,000 requests, and for a GiB and month."""

    put: float
    get: float
    list: float
    delete: float
    stored: float


# Assumptions, as published for a region in the US and read in November 2026; taxes, tiers,
# redundancy and transfers out of the region are left out.
CLOUDS = {
    "S3 Standard": Prices(0.005, 0.0004, 0.005, 0, 0.023),
    "GCS Standard, one region": Prices(0.005, 0.0004, 0.005, 0, 0.020),
    "Azure Blob, hot, LRS": Prices(0.005, 0.0004, 0.005, 0, 0.018),
}


@dataclass(frozen=True)
class Request:
    kind: str
    key: str


class Counted(MemoryStore):
    """A memory store that counts like a bucket, and records each request a bucket would receive."""

    remote = True

    def __init__(self) -> None:
        super().__init__("memory:counted")
        self.requests: builtins.list[Request] = []

    def create(self, key: str, value: bytes) -> bool:
        self.requests.append(Request("PUT", key))
        return super().create(key, value)

    def get(self, key: str) -> bytes | None:
        self.requests.append(Request("GET", key))
        return super().get(key)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> builtins.list[str]:
        found = super().list(prefix, after=after, limit=limit)
        pages = max(1, -(-len(found) // PAGE))
        self.requests += [Request("LIST", prefix)] * pages
        return found

    def delete(self, *keys: str) -> None:
        self.requests += [Request("DELETE", key) for key in keys]
        super().delete(*keys)

    def during(self, work: Callable[[], object]) -> builtins.list[Request]:
        """Return the requests that `work` makes."""
        before = len(self.requests)
        work()
        return self.requests[before:]

    def size(self) -> tuple[int, int]:
        """Return the number of objects, and the bytes of their keys and contents."""
        return len(self._objects), sum(len(k) + len(v) for k, v in self._objects.items())


@kitaru.checkpoint
def step(number: int) -> dict[str, object]:
    return {"number": number, "text": "a sentence that a model wrote, more or less. " * 10}


@kitaru.flow
def typical(count: int) -> int:
    for number in range(count):
        step(number)
    return count


@dataclass(frozen=True)
class Measured:
    """The requests of one execution to its bucket, and the size of its stored data."""

    exec_id: str
    run: list[Request]
    removed: list[Request]
    objects: int
    bytes: int


def measured(count: int = CHECKPOINTS) -> Measured:
    """Run one execution, and remove it, in a store that counts requests."""
    store = Counted()

    def run() -> None:
        check(typical.options(store=store, cache=False).run(count).wait(), count)

    asked = store.during(run)
    objects, size = store.size()
    (item,) = list_executions(store, limit=1)
    removed = store.during(lambda: check(len(list(collect(store, timedelta(0)))), 1))
    # The next garbage collection removes the marker and the end.
    later = "kitaru.runtime.executions.gc._is_recent"
    with patch(later, return_value=False):
        removed += store.during(lambda: list(collect(store, timedelta(0))))
    check(store.size()[0], 0)
    return Measured(item["exec_id"], asked, removed, objects, size)


def traffic(
    of: Measured, make: Callable[[float], str], start: float, rate: float, window: float
) -> Iterator[Request]:
    """Yield the requests of a window: executions that started in the last `AT_ONCE / rate` seconds.

    Each sends its requests evenly spread over its lifetime.
    """
    chance = random.Random(start)
    life = AT_ONCE / (PER_DAY / 86_400)
    moment = start - life
    while (moment := moment + chance.expovariate(rate)) < start + window:
        first = max(0, int((start - moment) / life * len(of.run)))
        last = min(len(of.run), int((start + window - moment) / life * len(of.run)))
        exec_id = make(moment) if first < last else ""
        for request in of.run[first:last]:
            yield Request(request.kind, request.key.replace(of.exec_id, exec_id))


def time_first(moment: float) -> str:
    """Return an id in the format of Kitaru 0.2."""
    return _made(ids.new_ascending_id, moment)


def random_first(moment: float) -> str:
    return _made(ids.new_execution_id, moment)


def _made(make: Callable[[], str], moment: float) -> str:
    # The clock of the simulation, which can create ids in any order.
    with (
        patch.object(ids, "now_milliseconds", lambda: int(moment * 1000)),
        patch.object(ids, "_last_ms", 0),
    ):
        return make()


@dataclass(frozen=True)
class Epoch:
    """The partitions of the range of keys at a time, and the busiest partition, by second."""

    partitions: int
    writes: float
    reads: float
    refused: float


def partitioned(of: Measured, make: Callable[[float], str], rate: float) -> list[Epoch]:
    """Simulate a bucket that splits its busy partitions in two, `SPLITS` times."""
    borders: list[str] = []
    epochs, start = [], 1_790_000_000.0
    for _ in range(SPLITS):
        loads: dict[int, list[str]] = {}
        reads: Counter[int] = Counter()
        for request in traffic(of, make, start, rate, WINDOW):
            place = bisect_right(borders, request.key)
            if request.kind in ("PUT", "DELETE"):
                loads.setdefault(place, []).append(request.key)
            else:
                reads[place] += 1
        written = [len(each) / WINDOW for each in loads.values()]
        refused = sum(max(0.0, each - WRITES) for each in written) / sum(written)
        busiest_reads = max(reads.values()) / WINDOW
        epochs.append(Epoch(len(borders) + 1, max(written), busiest_reads, refused))
        for place, those in loads.items():
            if len(those) / WINDOW > WRITES or reads[place] / WINDOW > READS:
                insort(borders, sorted(those)[len(those) // 2])
        start += SPLIT.total_seconds()
    return epochs


def kinds(requests: Sequence[Request]) -> Counter[str]:
    return Counter(request.kind for request in requests)


def prefixes(requests: Sequence[Request]) -> Counter[str]:
    """Count writes by the first segment of their key."""
    writes = (each for each in requests if each.kind in ("PUT", "DELETE"))
    return Counter(each.key.partition("/")[0] + "/" for each in writes)


def cost(requests: Sequence[Request], prices: Prices) -> float:
    price = dict(zip(KINDS, (prices.put, prices.get, prices.list, prices.delete), strict=True))
    return sum(count * price[kind] / 1000 for kind, count in kinds(requests).items())


def page_requests(count: int) -> list[Request]:
    """Return the requests for the first page of a listing, with `count` executions in the store."""
    store = Counted()
    fill(store, count)
    return store.during(lambda: check(len(list_executions(store)), 20))


def fill(store: Store, count: int) -> None:
    for number in range(count):
        at = f"2026-11-{1 + number * 28 // count:02d}T00:00:{number % 60:02d}.{number:06d}Z"
        for position, status in enumerate(("running", "completed"), 1):
            store.create(keys.index(at, f"e{number:06d}", position, status, "review"), b"")


def lines() -> list[Line]:
    of, average = measured(), PER_DAY / 86_400
    split = _partitions(measured(MANY), average)
    return [*_requests(of, average), *split, *_history(of), *_prices(of)]


def _requests(of: Measured, average: float) -> Iterator[Line]:
    asked, removed = kinds(of.run), kinds(of.removed)
    shown = ", ".join(f"{asked[kind]} {kind}" for kind in KINDS)
    yield Line(f"an execution of {CHECKPOINTS} checkpoints", shown, "", None, "")
    shown = ", ".join(f"{removed[kind]} {kind}" for kind in KINDS)
    yield Line("its removal", shown, "", None, "")
    stored = f"{of.objects} objects, {of.bytes:,} bytes"
    yield Line("what is stored of it", stored, "", None, "")
    for prefix, count in prefixes(of.run).most_common():
        each = f"{count * average:,.0f} writes/s, {count * average * PEAK:,.0f} at the peak"
        yield Line(f"{PER_DAY:,} a day: below {prefix}", each, "", None, "")


def _partitions(of: Measured, average: float) -> Iterator[Line]:
    for name, make in (("time first", time_first), ("random first", random_first)):
        for number, epoch in enumerate(partitioned(of, make, average * PEAK)):
            after = SPLIT * number
            yield Line(
                f"{MANY} checkpoints, ids {name}, peak, after {after}: "
                f"{epoch.partitions} partitions",
                f"busiest: {epoch.writes:,.0f} writes/s, {epoch.reads:,.0f} reads/s",
                f"a partition: {WRITES:,} and {READS:,}",
                epoch.writes / WRITES,
                f"{epoch.refused:.0%} of writes over it",
            )


def _history(of: Measured) -> Iterator[Line]:
    for count in (1_000, 20_000):
        asked = kinds(page_requests(count))
        shown = ", ".join(f"{asked[kind]} {kind}" for kind in KINDS if asked[kind])
        yield Line(f"a page of the listing, {count:,} executions", shown, "", None, "constant")
    states = prefixes(of.run)["index/"]
    a_day = PER_DAY * states / PAGE
    yield Line("to list a whole day", f"{a_day:,.0f} LIST", "", None, "")
    yield Line("to list a whole year", f"{a_day * 365:,.0f} LIST", "", None, "")


def _prices(of: Measured) -> Iterator[Line]:
    for name, prices in CLOUDS.items():
        run, removal = cost(of.run, prices), cost(of.removed, prices)
        kept = of.bytes / 2**30 * prices.stored * PER_DAY * 90
        shown = f"${run:.6f} to run, ${removal:.6f} to remove"
        yield Line(f"an execution, {name}", shown, "", None, "")
        shown = f"${run * PER_DAY:,.0f} to run, ${removal * PER_DAY:,.0f} to remove"
        yield Line(f"{PER_DAY:,} executions, {name}", shown, "", None, "")
        yield Line(f"90 days of them, {name}", f"${kept:,.0f} a month to store", "", None, "")
