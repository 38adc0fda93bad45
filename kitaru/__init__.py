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

from kitaru.version import VERSION as __version__

if TYPE_CHECKING:
    from kitaru import aio, errors, memory
    from kitaru.checkpoints import checkpoint
    from kitaru.children import Child, invoke
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
    from kitaru.config import configure
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
    from kitaru.flows import flow
    from kitaru.handle import Handle
    from kitaru.model_calls import llm
    from kitaru.primitives import (
        emit,
        idempotency_key,
        inbox,
        load,
        log,
        now,
        progress,
        save,
        secret,
        sleep,
        tag,
        wait,
        wait_event,
    )
    from kitaru.runtime.codec.classes import migrate, moved
    from kitaru.runtime.codec.stateless import stateless
    from kitaru.runtime.codec.user_codecs import register_codec
    from kitaru.runtime.engine.declared_changes import added, removed, renamed
    from kitaru.runtime.engine.futures import Future
    from kitaru.runtime.llm.replies import Reply, ToolCall
    from kitaru.wire.flow_events import on_event
    from kitaru.wire.flow_limits import limit
else:

    def __getattr__(name: str) -> Any:
        # The command line needs none of these names, and a step only a few.
        from importlib import import_module

        if name in ("aio", "errors", "memory"):
            return import_module(f"kitaru.{name}")
        if module := _module_of(name):
            globals()[name] = getattr(import_module(module), name)
            return globals()[name]
        from kitaru.compat.removed import REMOVED

        help = f". {REMOVED[name]}" if name in REMOVED else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{help}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


# No module here has the name of a function: importing it would hide the function.
_MODULES = {
    "KitaruClient": "kitaru.client",
    **dict.fromkeys(("Child", "invoke"), "kitaru.children"),
    "checkpoint": "kitaru.checkpoints",
    "configure": "kitaru.config",
    "flow": "kitaru.flows",
    "Handle": "kitaru.handle",
    "llm": "kitaru.model_calls",
    **dict.fromkeys(
        (
            "emit",
            "idempotency_key",
            "inbox",
            "load",
            "log",
            "now",
            "progress",
            "save",
            "secret",
            "sleep",
            "tag",
            "wait",
            "wait_event",
        ),
        "kitaru.primitives",
    ),
    **dict.fromkeys(("migrate", "moved"), "kitaru.runtime.codec.classes"),
    "stateless": "kitaru.runtime.codec.stateless",
    "register_codec": "kitaru.runtime.codec.user_codecs",
    **dict.fromkeys(("added", "removed", "renamed"), "kitaru.runtime.engine.declared_changes"),
    "Future": "kitaru.runtime.engine.futures",
    **dict.fromkeys(("Reply", "ToolCall"), "kitaru.runtime.llm.replies"),
    "limit": "kitaru.wire.flow_limits",
    "on_event": "kitaru.wire.flow_events",
}


def _module_of(name: str) -> str:
    """Return the module that defines a public name, or ""."""
    if name not in __all__:
        return ""
    others = "kitaru.errors" if name.startswith("Kitaru") else "kitaru.compat.names"
    return _MODULES.get(name, others)


__all__ = [
    "Child",
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
    "aio",
    "checkpoint",
    "configure",
    "create_secret",
    "create_stack",
    "current_execution_id",
    "current_stack",
    "delete_secret",
    "delete_stack",
    "emit",
    "errors",
    "flow",
    "get_secret",
    "idempotency_key",
    "inbox",
    "invoke",
    "limit",
    "list_stacks",
    "llm",
    "load",
    "log",
    "memory",
    "migrate",
    "moved",
    "now",
    "on_event",
    "progress",
    "register_codec",
    "removed",
    "renamed",
    "save",
    "secret",
    "sleep",
    "stateless",
    "tag",
    "use_stack",
    "wait",
    "wait_event",
]
