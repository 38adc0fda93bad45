"""Fault 8: a power loss while a store is created and written; durable objects survive."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from .power import COUNT, LOST, Disk, disks, hold

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace tells what was synced")


def lose_power(disk: Disk, folder: Path, seed: int, lost: float) -> None:
    folder.mkdir()
    disk.lose_power(folder, random.Random(seed), lost)
    hold(folder, disk.said)
    shutil.rmtree(folder)


def test_what_is_durable_survives_a_loss_of_power(on_disk: Path) -> None:
    moments = 0
    for seed, disk in enumerate(disks(on_disk)):
        moments += 1
        for lost in LOST:
            lose_power(disk, on_disk / "left", seed, lost)
    assert disk.said == COUNT and moments > 3 * COUNT


def test_a_store_that_does_not_wait_is_seen_to_lose(on_disk: Path) -> None:
    with pytest.raises(AssertionError, match="I1"):
        for seed, disk in enumerate(disks(on_disk, "NORMAL")):
            lose_power(disk, on_disk / "left", seed, 1.0)
