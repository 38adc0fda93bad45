"""Decides what authors of flows see: `import kitaru`.

Example:
    import kitaru
    from kitaru import checkpoint, flow

    @checkpoint
    def draft(topic: str) -> str:
        return kitaru.llm(f"Write about {topic}.")

    @flow
    def review_flow(topic: str) -> str:
        text = draft(topic)
        return text if kitaru.wait(name="approve") else "Rejected"

    review_flow.run("kayaks").wait()
"""

from typing import TYPE_CHECKING, Any

from kitaru import errors, memory
from kitaru.checkpoint import checkpoint
from kitaru.config import configure
from kitaru.flow import flow
from kitaru.handle import Handle
from kitaru.llm import llm
from kitaru.primitives import idempotency_key, load, log, save, secret, wait
from kitaru.runtime.llm.replies import Reply, ToolCall
from kitaru.runtime.running.futures import Future
from kitaru.version import VERSION as __version__

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
else:

    def __getattr__(name: str) -> Any:
        # Flows and steps have no use for it, and it reads much that they do not.
        if name != "KitaruClient":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from kitaru.client import KitaruClient

        globals()[name] = KitaruClient
        return KitaruClient


__all__ = [
    "Future",
    "Handle",
    "KitaruClient",
    "Reply",
    "ToolCall",
    "__version__",
    "checkpoint",
    "configure",
    "errors",
    "flow",
    "idempotency_key",
    "llm",
    "load",
    "log",
    "memory",
    "save",
    "secret",
    "wait",
]
