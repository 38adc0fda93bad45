"""The API of flows and their callers: `import kitaru`.

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
from kitaru.runtime.codec.classes import migrate, moved
from kitaru.runtime.codec.stateless import stateless
from kitaru.runtime.codec.user_codecs import register_codec
from kitaru.runtime.engine.declared_changes import added, removed, renamed
from kitaru.runtime.engine.futures import Future
from kitaru.runtime.llm.replies import Reply, ToolCall
from kitaru.version import VERSION as __version__

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.compat.names import (
        FlowHandle,
        ImageSettings,
        StackInfo,
        create_secret,
        create_stack,
        current_execution_id,
        current_stack,
        delete_secret,
        delete_stack,
        get_secret,
        list_stacks,
        use_stack,
    )
    from kitaru.errors import (
        KitaruAmbiguousFlowResultError,
        KitaruBackendError,
        KitaruContextError,
        KitaruDivergenceError,
        KitaruError,
        KitaruExecutionError,
        KitaruFeatureNotAvailableError,
        KitaruLogRetrievalError,
        KitaruRuntimeError,
        KitaruStateError,
        KitaruTimeoutError,
        KitaruUsageError,
        KitaruUserCodeError,
        KitaruWaitValidationError,
    )
else:

    def __getattr__(name: str) -> Any:
        # Flows and steps do not need these names, and their modules import many others.
        from importlib import import_module

        module = _module_of(name)
        if module:
            globals()[name] = getattr(import_module(module), name)
            return globals()[name]
        from kitaru.compat.removed import REMOVED

        help = f". {REMOVED[name]}" if name in REMOVED else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{help}")


def _module_of(name: str) -> str:
    """Return the module of a lazily imported name, or ""."""
    if name not in __all__:
        return ""
    if name == "KitaruClient":
        return "kitaru.client"
    return "kitaru.errors" if name.startswith("Kitaru") else "kitaru.compat.names"


__all__ = [
    "FlowHandle",
    "Future",
    "Handle",
    "ImageSettings",
    "KitaruAmbiguousFlowResultError",
    "KitaruBackendError",
    "KitaruClient",
    "KitaruContextError",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruExecutionError",
    "KitaruFeatureNotAvailableError",
    "KitaruLogRetrievalError",
    "KitaruRuntimeError",
    "KitaruStateError",
    "KitaruTimeoutError",
    "KitaruUsageError",
    "KitaruUserCodeError",
    "KitaruWaitValidationError",
    "Reply",
    "StackInfo",
    "ToolCall",
    "__version__",
    "added",
    "checkpoint",
    "configure",
    "create_secret",
    "create_stack",
    "current_execution_id",
    "current_stack",
    "delete_secret",
    "delete_stack",
    "errors",
    "flow",
    "get_secret",
    "idempotency_key",
    "list_stacks",
    "llm",
    "load",
    "log",
    "memory",
    "migrate",
    "moved",
    "register_codec",
    "removed",
    "renamed",
    "save",
    "secret",
    "stateless",
    "use_stack",
    "wait",
]
