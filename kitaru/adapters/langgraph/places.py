"""Where a call is made in a run of LangGraph: the nodes and steps around it.

LangGraph runs the nodes of a step on threads or tasks of its own, in any order. The place of a call
is its node, the number of its step, and its number among the tasks of that node:

    graph.search-1-2.look       the third task of node `search` in step 1 calls `look`

LangGraph's own ids of tasks are different in each process, so they occur in no place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.config import get_config
from langgraph.runtime import get_runtime

from kitaru import harness

_NS = "langgraph_checkpoint_ns"
_active: ContextVar[Run | None] = ContextVar("kitaru_langgraph_run", default=None)


def active_run() -> Run | None:
    """Return the run of a `KitaruGraphRunner` that the caller is part of."""
    return _active.get()


class Run(BaseCallbackHandler):
    """One run of a graph in a flow: the scope of its records, and the names of its nodes.

    LangGraph notifies it of each node, as a handler of callbacks. A node of a subgraph knows the
    ids of the nodes around it, but not their names and steps.
    """

    # Otherwise an async graph would call the handler on another thread, possibly too late.
    run_inline = True

    def __init__(self, name: str) -> None:
        self._scope = harness.scope(name)
        self._outer = len(_namespaces(_metadata()))
        self._names: dict[tuple[str, ...], str] = {}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Give the calls in this block, and in the nodes that it starts, their places."""
        token = _active.set(self)
        try:
            with self._scope, harness.place_provider(self._place):
                yield
        finally:
            _active.reset(token)

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, metadata: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Note the name of a node that starts."""
        if metadata and "langgraph_node" in metadata:
            spaces = _namespaces(metadata)
            self._names.setdefault(spaces, _node(metadata))

    def _place(self) -> tuple[str, object] | None:
        metadata = _metadata()
        spaces = _namespaces(metadata)
        if "langgraph_node" not in metadata or len(spaces) <= self._outer:
            return None
        inner = range(self._outer + 1, len(spaces))
        around = [self._outer_name(spaces[:length]) for length in inner]
        # Each attempt at a node has an object of its own: a retry, or a start after an interrupt.
        return ".".join([*around, _node(metadata)]), get_runtime().execution_info

    def _outer_name(self, spaces: tuple[str, ...]) -> str:
        node = spaces[-1].partition(":")[0]
        if node.isdecimal():
            # A node runs a subgraph for the second time.
            return f"run-{int(node) + 1}"
        return self._names.get(spaces, harness.clean(node))


def outer_nodes() -> str:
    """Return the path of the nodes around the running graph, empty for an outermost one.

    For graphs that run without a `KitaruGraphRunner`.
    """
    names = [space.partition(":")[0] for space in _namespaces(_metadata())[:-1]]
    return ".".join(harness.clean(name) for name in names)


def agent_name() -> str:
    """Return the name of the running agent of LangChain, `agent` for one without a name."""
    return str(_metadata().get("lc_agent_name") or "agent")


def task_number() -> str:
    """Return the number of the running task among those of its node, empty if there is one."""
    return _number(_metadata())


def _metadata() -> dict[str, Any]:
    try:
        return dict(get_config().get("metadata") or {})
    except RuntimeError:
        return {}


def _namespaces(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Return the nodes around a call, outermost first: `("search:6f9…", "model:01a…")`."""
    return tuple(part for part in str(metadata.get(_NS) or "").split("|") if part)


def _node(metadata: dict[str, Any]) -> str:
    parts = [metadata["langgraph_node"], str(metadata["langgraph_step"]), _number(metadata)]
    return harness.clean("-".join(filter(None, parts)))


def _number(metadata: dict[str, Any]) -> str:
    path = metadata.get("langgraph_path", ())[1:]
    return next((str(part) for part in path if isinstance(part, int)), "")
