"""Which of Kitaru's functions an import refuses: each one that starts, answers or changes anything.

The public API is walked from `kitaru.__all__` through what its functions return. A function that is
new has to be in one of the lists here, or has to refuse.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import ContextError, KitaruError
from kitaru.ops.invoke import FlowDeployment
from kitaru.runtime.executions.deployments import Deployment
from kitaru.runtime.steps.modules import import_file
from kitaru.stores import open_store
from kitaru.wire.starts import NotStarted, imports

# Every module is imported.
pytest.importorskip("opentelemetry.sdk")

# What reads, or sets something for this process alone, as a module may do at its top level.
READS = {
    "Artifacts.get", "Artifacts.list", "Checked.is_fatal", "DeployedFlows.flows",
    "DeployedFlows.get", "DeployedFlows.list", "DeployedFlows.read", "DeployedFlows.tags",
    "Executions.diff", "Executions.export",
    "Drawn.text", "Executions.calls", "Executions.each", "Executions.get",
    "Executions.latest", "Executions.lineage",
    "Executions.list", "Executions.logs", "Executions.page", "Executions.pending_waits",
    "Executions.statistics", "ExecutionView.answers_as_json", "ExecutionView.evidence",
    "ExecutionView.silent_since", "KitaruClient.due", "ExecutionView.list_artifacts",
    "ExecutionView.list_checkpoints",
    "ExecutionView.as_json", "ExecutionView.overview",
    "ExecutionView.to_dict", "ExecutionView.waits_as_json",
    "Flow.deployment", "Flow.deployments",
    "Flow.options", "KitaruClient.check", "KitaruClient.check_store", "KitaruClient.diff",
    "KitaruClient.diff_deployed", "KitaruClient.explain", "KitaruClient.fingerprint",
    "KitaruClient.graph",
    "KitaruClient.verify", "KitaruClient.verify_store", "Replayed.to_dict",
    "KitaruClient.audit", "Events.get", "Events.list", "Events.triggers",
    "Schedules.get", "Schedules.list",
    "Schedules.next", "Tokens.list", "Notifications.channels", "Notifications.list",
    "KitaruClient.model_usage", "Memories.configure", "Memories.entry",
    "ScopedMemories.get", "ScopedMemories.history", "ScopedMemories.list", "ScopedMemories.scopes",
    "Memories.get", "Memories.history", "Memories.list", "Memories.scopes", "Memories.show",
    "kitaru.configure", "kitaru.current_stack", "kitaru.get_secret", "kitaru.list_stacks",
    "kitaru.secret",
}  # fmt: skip
# What defines a flow or a checkpoint, or declares how one has changed.
DEFINES = {
    "kitaru.added", "kitaru.checkpoint", "kitaru.flow", "kitaru.limit", "kitaru.migrate",
    "kitaru.moved", "kitaru.on_event", "kitaru.register_codec", "kitaru.removed", "kitaru.renamed",
    "kitaru.stateless",
}  # fmt: skip
# What needs an execution that was started: no import has one, and outside a flow each is an error.
IN_FLOWS = {
    "Checkpoint.map", "Checkpoint.product", "Checkpoint.promise", "Checkpoint.submit",
    "kitaru.current_execution_id",
    "kitaru.idempotency_key", "kitaru.invoke", "kitaru.llm", "kitaru.load", "kitaru.log",
    "kitaru.emit", "kitaru.inbox", "kitaru.now", "kitaru.progress", "kitaru.save", "kitaru.sleep",
    "kitaru.tag", "kitaru.wait", "kitaru.wait_event",
}  # fmt: skip
# Methods of what only a start returns; plain data, and the objects of a store.
OF_STARTED = {"Child", "Handle", "ReplayHandle", "Future", "Futures"}
DATA = {
    "Grant",
    "Token",
    "MemoryArtifact",
    "MemoryEntry",
    "Comparison",
    "Deployment",
    "Drawn",
    "Evaluation",
    "Event",
    "Trigger",
    "ImageSettings",
    "MemoryStore",
    "Reply",
    "Schedule",
    "StoredArtifact",
    "ToolCall",
}


@checkpoint
def draft(topic: str) -> str:
    return topic


@flow
def review(topic: str) -> str:
    return draft(topic)


STORE = open_store("memory:starts")
CLIENT = KitaruClient(STORE)
VERSION = Deployment(
    flow="review", number=1, target="local", digest="", files={}, deployed_at="",
    kitaru_version="", tags=(),
)  # fmt: skip
OBJECTS: dict[str, Any] = {
    "Flow": review,
    "Runner": review.options(store=STORE),
    "Checkpoint": draft,
    "KitaruClient": CLIENT,
    "Executions": CLIENT.executions,
    "DeployedFlows": CLIENT.deployments,
    "Memories": CLIENT.memory,
    "Artifacts": CLIENT.artifacts,
    "Schedules": CLIENT.schedules,
    "Events": CLIENT.events,
    "Tokens": CLIENT.tokens,
    "Notifications": CLIENT.notifications,
    "ScopedMemories": CLIENT.memories,
    "FlowDeployment": FlowDeployment(VERSION, STORE),
}


def classes() -> dict[str, type]:
    """Return the classes of the package by name."""
    found = {}
    # Harnesses with an environment of their own cannot be imported here.
    lists = (Path(__file__).parents[1] / "adapters" / "environments").glob("*.txt")
    elsewhere = {path.stem.removesuffix("-oldest").replace("-", "_") for path in lists}
    skipped = re.compile(rf"__main__|\.(cli|server)\b|\.adapters\.({'|'.join(elsewhere)})\b")
    for module in pkgutil.walk_packages(kitaru.__path__, "kitaru."):
        if not skipped.search(module.name):
            for name, value in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(value) and value.__module__.startswith("kitaru"):
                    found[name] = value
    return found


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions that users reach, as `Class.method` or `kitaru.function`."""
    known, seen, pending = classes(), set(), ["KitaruClient"]
    for name in kitaru.__all__:
        value = getattr(kitaru, name)
        if inspect.isclass(value):
            pending.append(name)
        elif inspect.isfunction(value):
            yield f"kitaru.{name}", value
            pending += named(value, known)
    pending += [type(value).__name__ for value in vars(CLIENT).values()]
    while pending:
        name = pending.pop()
        cls = known.get(name)
        if cls is None or cls in seen or issubclass(cls, KitaruError | str | Exception):
            continue
        seen.add(cls)
        for method, value in inspect.getmembers(cls, inspect.isfunction):
            if not method.startswith("_") and value.__module__.startswith("kitaru"):
                yield f"{cls.__name__}.{method}", value
                pending += named(value, known)


def named(function: Callable[..., Any], known: dict[str, type]) -> list[str]:
    returned = str(inspect.get_annotations(function).get("return", ""))
    return [name for name in re.findall(r"\w+", returned) if name in known]


def call(name: str) -> Any:
    """Call a function with arguments that fit nothing."""
    owner, _, attribute = name.partition(".")
    function = getattr(OBJECTS.get(owner, kitaru), attribute)
    needed = [one for one in inspect.signature(function).parameters.values() if one.default is _NO]
    positional = [None for one in needed if one.kind is one.POSITIONAL_OR_KEYWORD]
    return function(
        *positional, **{one.name: None for one in needed if one.kind is one.KEYWORD_ONLY}
    )


_NO = inspect.Parameter.empty
SURFACE = dict(public())
KNOWN = READS | DEFINES | IN_FLOWS
MUST_REFUSE = sorted(
    name for name in SURFACE.keys() - KNOWN if name.partition(".")[0] not in OF_STARTED | DATA
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KITARU_STORE", "memory:starts")


@pytest.mark.parametrize("name", MUST_REFUSE)
def test_an_import_refuses_what_starts_or_changes_something(name: str, tmp_path: Path) -> None:
    with imports(), pytest.raises(NotStarted):
        call(name)
    assert STORE.list("") == [] and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", sorted(IN_FLOWS))
def test_what_runs_in_flows_is_an_error_outside(name: str) -> None:
    given = {
        "kitaru.emit": ("a",),
        "kitaru.inbox": ("a",),
        "kitaru.invoke": ("a",),
        "kitaru.llm": ("Hello.",),
        "kitaru.save": ("a", 1),
        "kitaru.load": ("a", "b"),
        "kitaru.progress": (1,),
        "kitaru.wait_event": ("a",),
    }
    owner, _, attribute = name.partition(".")
    arguments = ([1],) if owner == "Checkpoint" else given.get(name, ())
    with imports(), pytest.raises(ContextError):
        getattr(OBJECTS.get(owner, kitaru), attribute)(*arguments)


def test_the_lists_name_what_exists() -> None:
    assert SURFACE.keys() >= KNOWN
    assert {name.partition(".")[0] for name in SURFACE} >= OF_STARTED | OBJECTS.keys()
    assert MUST_REFUSE


TOP_LEVELS = {
    "a stack that is not here": "review.run('owls', stack='elsewhere')",
    "inputs that do not fit": "review.run()",
    "a flow that is not deployed": "KitaruClient().deployments.invoke('review')",
    "memory": "memory.set('tone', 'dry', scope='namespace:n')",
    "a stack": "kitaru.create_stack('prod', target='vertex')",
}


@pytest.mark.parametrize("start", TOP_LEVELS.values(), ids=TOP_LEVELS.keys())
def test_a_module_with_it_at_the_top_level_is_imported(start: str, tmp_path: Path) -> None:
    file = tmp_path / f"top_{len(start)}.py"
    file.write_text(
        "import kitaru\nfrom kitaru import KitaruClient, flow, memory\n\n"
        f"@flow\ndef review(topic): return topic\n\n{start}\nBELOW = 1\n"
    )
    try:
        assert import_file(file).BELOW == 1
    finally:
        sys.modules.pop(file.stem, None)
    assert STORE.list("") == []
    assert {path.name for path in tmp_path.iterdir()} <= {file.name, "__pycache__"}
