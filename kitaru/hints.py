"""Commands that errors and messages offer to paste.

An error of a lower layer carries the next step (`next_step`), its execution and its store. This
module turns them into a command line, so that no other module below the use cases depends on the
syntax of commands.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from kitaru.store_urls import DEFAULT_URL, sqlite_path

NextStep = Literal[
    "",
    "see",
    "see first answer",
    "see or start new",
    "see flow",
    "list executions",
    "check store",
    "restore",
]


class Located(Protocol):
    """A store that has a URL."""

    @property
    def url(self) -> str: ...


class Recorded(Protocol):
    """An execution in a store, such as a `Journal`."""

    @property
    def store(self) -> Located: ...
    @property
    def exec_id(self) -> str: ...


def next_step(step: NextStep, *, store_url: str = "", exec_id: str = "", flow: str = "") -> str:
    """Return the sentence that offers a step; empty for no step.

    Args:
        store_url: the store that the error is about.
        exec_id: the execution that it is about.
        flow: the deployed flow that it is about.

    Example:
        >>> next_step("see", store_url="memory:doc", exec_id="e1")
        'See: kitaru executions get e1 --store memory:doc'
    """
    match step:
        case "see":
            return f"See: {_execution(store_url, 'get', exec_id)}"
        case "see first answer":
            return f"The first answer counts. See: {_execution(store_url, 'get', exec_id)}"
        case "see or start new":
            see = _execution(store_url, "get", exec_id)
            return (
                "Leave the execution id out to start a new execution, or look at this one: " + see
            )
        case "see flow":
            return (
                "Give the service the document of that version, or invoke the version it has: "
                f"kitaru flow show {flow}"
            )
        case "list executions":
            return f"List those there are: {_execution(store_url, 'list')}"
        case "check store":
            return f"Check the store with: kitaru store check {store_url}"
        case "restore":
            return "Restore it from a backup, or start a new execution with `kitaru run`."
    return ""


def command(store: Located, *words: str) -> str:
    """Return a command to paste; it names the store unless it finds the same one without.

    Example:
        >>> command(MemoryStore("memory:doc"), "executions", "get", "e1")
        'kitaru executions get e1 --store memory:doc'
    """
    return shlex.join(["kitaru", *words, *_named(store.url)])


def retry_help(execution: Recorded) -> str:
    """Return how to run a failed execution again."""
    return f"Fix the cause, then: {_of(execution, 'retry')}"


def resume_help(execution: Recorded) -> str:
    """Return how to resume an execution whose process is gone."""
    return f"To resume: {resume_command(execution)}"


def resume_command(execution: Recorded) -> str:
    """Return the command that resumes an execution."""
    return _of(execution, "resume")


def name_execution(help: str, execution: Recorded) -> str:
    """Return the help of a store, which knows no execution, with the command for this one."""
    return help.replace("kitaru executions resume EXEC", _of(execution, "resume"))


def input_help(execution: Recorded, wait: str) -> str:
    """Return how to answer a wait."""
    return _of(execution, "input", "--wait", wait, "--value", "VALUE")


def send_command(store: Located, event: Mapping[str, Any]) -> str:
    """Return the command that sends the event that a wait asks for; see `WaitRequest.event`."""
    data: dict[str, Any] = {}
    for path, value in event["match"].items():
        place, (*parents, last) = data, path.split(".")
        for part in parents:
            inner = place.setdefault(part, {})
            place = inner if isinstance(inner, dict) else {}
        place[last] = value
    text = json.dumps(data, ensure_ascii=False)
    return command(store, "events", "send", event["name"], "--data", text)


def get_help(execution: Recorded) -> str:
    """Return how to look at an execution."""
    return f"See: {_of(execution, 'get')}"


def new_help(execution: Recorded) -> str:
    """Return how to continue from what a cancelled execution recorded."""
    return f"Continue in a new execution: {_of(execution, 'replay', '--at', 'failure')}"


def _of(execution: Recorded, verb: str, *more: str) -> str:
    return _execution(execution.store.url, verb, execution.exec_id, *more)


def _execution(store_url: str, verb: str, *more: str) -> str:
    return shlex.join(["kitaru", "executions", verb, *more, *_named(store_url)])


def _named(store_url: str) -> list[str]:
    """Return the `--store` option for a store, or no option for the default store."""
    default = os.environ.get("KITARU_STORE") or DEFAULT_URL
    return [] if _place(store_url) == _place(default) else ["--store", store_url]


def _place(url: str) -> str:
    place = url.removeprefix("sqlite:")
    return url if place == url else str(sqlite_path(place).resolve())
