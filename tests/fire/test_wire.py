"""Faults between processes and the server of a bucket, request by request; then going on.

A part of what `python -m tests.fire faults` tries.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.servers.real import serving

from .faults import random_schedule
from .wire import WIRE_FAULTS, bucket

# To wait for no answer takes a second each time.
QUICK = {fault: with_ for fault, with_ in WIRE_FAULTS.items() if "stall" not in fault}


def test_many_faults_before_a_bucket(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    met: set[str] = set()
    with serving("moto", tmp_path) as server, bucket(server) as (look, way):
        for seed in range(6):
            store = look(f"seed-{seed}")
            met.update(random_schedule(seed, QUICK).run(store, way).met)
            store.close()
    assert len(met) > 1
