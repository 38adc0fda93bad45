"""Awaiting the future of a submitted call. asyncio is imported when a future is awaited.

`Future` cannot import this module: the module behind it imports `Execution`, which imports
`Future`. Therefore each creator of an `Execution` passes `result_of`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kitaru.runtime.engine.futures import Future


def result_of(future: Future[Any]) -> Coroutine[Any, Any, Any]:
    """Return the coroutine that waits for `future` on the running event loop."""
    from kitaru.runtime.engine import awaited_calls

    return awaited_calls.result_of(future)
