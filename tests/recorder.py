"""Lists in which checkpoints record their calls."""

from __future__ import annotations

from typing import Any


class Calls(list[Any]):
    """A list that the cache does not count as state: `tests/conftest.py` declares it stateless.

    Otherwise a checkpoint that changes a list would not be cached.
    """
