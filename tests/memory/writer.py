"""One process that adds to a counter in a memory: URL COUNT, again and again until it has.

It says each version that it wrote.
"""

from __future__ import annotations

import os
import sys

from kitaru import KitaruClient
from kitaru.errors import MemoryConflict
from kitaru.memory import Memories
from tests.waiting import attempts

SCOPE = "namespace:race"


def add(memory: Memories, count: int) -> list[int]:
    """Add 1 so many times; return the versions that this wrote."""
    written: list[int] = []
    for _ in attempts():
        if len(written) == count:
            break
        entry = memory.entry("count", scope=SCOPE)
        value, version = (entry.value, entry.version) if entry else (0, 0)
        try:
            written.append(memory.set("count", value + 1, expect=version, scope=SCOPE))
        except MemoryConflict:
            continue
    return written


if __name__ == "__main__":
    url, count = sys.argv[1:]
    written = add(KitaruClient(url).memory, int(count))
    os.write(1, " ".join(map(str, written)).encode())
