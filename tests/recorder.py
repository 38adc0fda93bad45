"""Lists in which checkpoints write down that they ran."""

from __future__ import annotations

from typing import Any


class Calls(list[Any]):
    """A list that the cache does not count as state: `tests/conftest.py` declares it stateless.

    A checkpoint that changes a list that it reads is not cached.
    """
