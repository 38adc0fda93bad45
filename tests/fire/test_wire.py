"""Faults between processes and the server of a bucket, by request, followed by a resume.

This runs a part of `python -m tests.fire faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kitaru.stores import Store
from tests.stores.servers.real import serving

from .faults import Schedule, Way, random_schedule
from .wire import WIRE_FAULTS, bucket

# Each wait for a missing response takes seconds.
QUICK = {fault: with_ for fault, with_ in WIRE_FAULTS.items() if "stall" not in fault}


Bucket = tuple[Callable[[str], Store], Way]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    pytest.importorskip("obstore")
    with serving("moto", tmp_path_factory.mktemp("moto")) as server, bucket(server) as found:
        yield found


def test_many_faults_before_a_bucket(moto: Bucket) -> None:
    look, way = moto
    met: set[str] = set()
    # Threads decide which request is the n-th, and whether its fault fits it.
    for seed in range(30):
        if seed >= 6 and len(met) > 1:
            break
        store = look(f"seed-{seed}")
        met.update(random_schedule(seed, QUICK).run(store, way).met)
        store.close()
    assert len(met) > 1


def test_credentials_that_expire_in_mid_run_end_it_and_another_process_goes_on(
    moto: Bucket,
) -> None:
    look, way = moto
    processes = []
    for at, fault in ((12, "400"), (30, "403"), (48, "400")):
        store = look(f"at-{at}")
        ran = Schedule("wait", ({at: fault},)).run(store, way)
        assert ran.met == [fault]
        processes.append(len(ran.operations))
        store.close()
    # Threads decide which request is affected. A rejected hint or log ends no process.
    assert set(processes) <= {1, 2} and processes.count(2) > 1
