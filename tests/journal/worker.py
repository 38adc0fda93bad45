"""One process of an execution: does its checkpoints and reports each on stdout, until it is killed.

    worker.py URL EXEC NAME COUNT [CHILDREN]

With CHILDREN it forks so many processes that begin together.
"""

from __future__ import annotations

import os
import sys

from kitaru.runtime.journal.blobs import store_value
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire import keys
from kitaru.wire.records import EndRecord, ExecutionRecord, InvocationRecord
from kitaru.wire.times import now


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def work(url: str, exec_id: str, name: str, count: int) -> None:
    store = open_store(url)
    inputs = store_value(store, keys.home(exec_id), count)
    journal = Journal.create(
        store,
        ExecutionRecord(exec_id, "f", "m", "m.py", "local", inputs, inputs.digest, now()),
    )
    for number in range(count):
        id = f"ck_{number}"
        if journal.invocation(id) is None:
            say("calls", id)
            # Every third value is a blob, so that kills fall between blob and record as well.
            value = journal.store_document(
                f"{name}-{number}-" + "x" * (70_000 if number % 3 == 0 else 10)
            )
            record = InvocationRecord(id, id, "checkpoint", "m.ck", "d", "completed", value)
            held = journal.record(record)
            say("recorded", id, held.value.digest)
    end = journal.finish(EndRecord("completed", journal.store_document(name), now()))
    say("ended", end.result.digest)
    store.close()


def race(children: int, url: str, exec_id: str, name: str, count: int) -> None:
    start, gate = os.pipe()
    for child in range(children):
        if os.fork() == 0:
            os.close(gate)
            os.read(start, 1)
            work(url, exec_id, f"{name}{child}", count)
            os._exit(0)
    os.close(gate)
    failures = [status for _ in range(children) if (status := os.wait()[1])]
    sys.exit(len(failures))


if __name__ == "__main__":
    url, exec_id, name, count, *children = sys.argv[1:]
    if children:
        race(int(children[0]), url, exec_id, name, int(count))
    else:
        work(url, exec_id, name, int(count))
