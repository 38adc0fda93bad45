"""The running command line tool of a run.

The flow starts it when a turn has no record, and reads its messages turn by turn:

    start  ->  messages  ->  the call of a tool       the turn ends, the tool runs meanwhile
           ->  messages  ->  the result               the last turn ends

A new process continues the transcript of the last one. The command line tool reports a call without
a result there as interrupted. The next prompt tells the model the recorded outcomes.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import shlex
import shutil
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import claude_agent_sdk
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKError,
    HookMatcher,
    ResultMessage,
    StreamEvent,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
    project_key_for_directory,
    query,
)

from kitaru import harness
from kitaru.adapters.child_processes import bound_command
from kitaru.adapters.claude_agent_sdk.requests import Requests
from kitaru.adapters.claude_agent_sdk.sessions import Attempts, KitaruSessionStore
from kitaru.adapters.claude_agent_sdk.tools import Call, Calls, Tools, by_full_name, servers
from kitaru.errors import UsageError

_INTERRUPTED = "Continue."
_OUTCOMES = (
    f"{_INTERRUPTED} These tool calls were interrupted, but they have ended. Do not make them "
    "again.\n\n"
)
_HOOK = str(Path(__file__).with_name("permission_hook.py"))
_BUNDLED = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
# A response whose stream breaks has no end.
_LONGEST_RESPONSE_SECONDS = 10
_TRANSPORT = "claude_agent_sdk._internal.transport.subprocess_cli"
_PID = "pid"


@dataclass
class Task:
    """What a run asks of the command line tool.

    Attributes:
        resume: the session that it continues.
        answers: the answers of persons by the ids of calls.
        deferred: the call whose answer it continues with, as id, name and arguments.
    """

    options: ClaudeAgentOptions
    tools: Tools
    ask: frozenset[str]
    prompt: str
    resume: str | None
    answers: dict[str, bool] = field(default_factory=dict)
    deferred: tuple[str, str, dict[str, Any]] | None = None


class Process:
    """A command line tool that was started."""

    def __init__(self, task: Task, calls: Calls, sessions: KitaruSessionStore) -> None:
        self._task, self._calls, self._sessions = task, calls, sessions
        self._own = by_full_name(task.tools)
        self._requests = Requests(task.prompt)
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self._due: deque[Call] = deque()
        self._uses: dict[str, tuple[str, dict[str, Any]]] = {}
        self._allowed: list[tuple[str, str, dict[str, Any]]] = []
        # Calls of earlier processes without an outcome in the transcript.
        self._interrupted: list[Call] = []
        self._is_over = asyncio.Event()
        self._spent = 0.0
        self._last: ResultMessage | None = None
        self._reader: asyncio.Task[None] | None = None
        self._folder: Path | None = None

    async def start(self, attempts: Attempts) -> None:
        """Start it in a new session, which continues the last one that has a transcript."""
        tried = await asyncio.to_thread(attempts.read)
        interrupted = await self._newest_begun(tried)
        resume = interrupted or self._task.resume
        entries = [] if resume is None else await self._entries(resume)
        states = [entry for entry in entries if entry["type"] == "cost-state"]
        # The price of a continued session contains that of the earlier one.
        self._spent = float(states[-1].get("totalCostUSD", 0)) if states else 0.0
        deferred = self._task.deferred
        is_same_run = interrupted is not None or deferred is not None
        missing = self._missing(entries if is_same_run else [])
        self._interrupted = [call for call in missing if not call.answer.done()]
        prompt: Any = _INTERRUPTED if interrupted else self._task.prompt
        # In another folder, the command line tool finds the transcript, and the store does not.
        is_deferred = interrupted is None and deferred is not None
        if is_deferred or (is_same_run and _is_deferred(entries)):
            # The call continues by itself, before the hooks of the SDK are registered.
            prompt, self._interrupted = self._silence(), missing
            if deferred is not None:
                self._uses[deferred[0]] = deferred[1:]
                self._allowed.append(deferred)
        elif ended := [call.text() for call in missing if call.answer.done()]:
            told = _OUTCOMES + "\n\n".join(ended)
            prompt = told if interrupted else f"{prompt}\n\n{told}"
        session = str(uuid.uuid4())
        await asyncio.to_thread(attempts.begin, len(tried), session)
        # The task groups of anyio belong to one task, and each turn runs in another one. The
        # context of the turn that starts would make callbacks part of that turn.
        self._reader = asyncio.get_running_loop().create_task(
            self._read(prompt, session, resume), context=contextvars.Context()
        )

    async def next(self) -> Call | ResultMessage:
        """Return the next call of a tool, or the result. Records the requests until then."""
        while not (self._due and self._requests.is_complete()):
            try:
                limit = _LONGEST_RESPONSE_SECONDS if self._due else None
                message = await asyncio.wait_for(self._messages.get(), limit)
            except TimeoutError:
                break
            if isinstance(message, BaseException) or message is None:
                return self._result(message)
            self._add(message)
        self._requests.record()
        return self._due.popleft()

    async def close(self) -> None:
        """End the command line tool."""
        if self._reader is None:
            return
        child = self._child()
        self._reader.cancel()
        await asyncio.wait([self._reader])
        # The SDK stops reading when it is cancelled. A pipe with more output than fits into its
        # buffer never reaches its end, and stays open.
        if child is not None and child.returncode is not None:
            await child.aclose()

    def _child(self) -> Any:
        """Return the process of the command line tool, if the SDK still has it."""
        if self._folder is None:
            return None
        try:
            pid = int((self._folder / _PID).read_text())
        except (OSError, ValueError):
            return None
        # The SDK passes it to nobody.
        children = getattr(sys.modules.get(_TRANSPORT), "_ACTIVE_CHILDREN", ())
        return next((child for child in children if child.pid == pid), None)

    # Messages

    async def _read(self, prompt: Any, session: str, resume: str | None) -> None:
        end: BaseException | None = None
        try:
            with tempfile.TemporaryDirectory(prefix="kitaru-") as folder:
                self._folder = Path(folder)
                options = self._options(self._folder, session, resume)
                async for message in query(prompt=prompt, options=options):
                    if isinstance(message, ResultMessage):
                        self._is_over.set()
                    elif isinstance(message, AssistantMessage):
                        used = [one for one in message.content if isinstance(one, ToolUseBlock)]
                        self._uses.update({one.id: (one.name, one.input) for one in used})
                    self._messages.put_nowait(message)
        except Exception as error:
            end = error
        finally:
            self._messages.put_nowait(end)

    def _add(self, message: Any) -> None:
        self._requests.add(message)
        if not isinstance(message, StreamEvent) or self._task.options.include_partial_messages:
            harness.emit(message, _text(message))
        if isinstance(message, UserMessage) and isinstance(message.content, list):
            for result in message.content:
                if isinstance(result, ToolResultBlock):
                    self._end(result)
        elif isinstance(message, Call):
            self._due.append(message)
        elif isinstance(message, ResultMessage):
            self._last = message

    def _end(self, result: ToolResultBlock) -> None:
        """Note that a tool has ended."""
        used = self._uses.pop(result.tool_use_id, None)
        self._allowed = [one for one in self._allowed if one[0] != result.tool_use_id]
        # The record of a tool of this process is made where it runs.
        if used is None or used[0] in self._own:
            return
        call, is_new = self._call(result.tool_use_id, *used)
        call.begin({"content": result.content, "is_error": bool(result.is_error)})
        if is_new:
            self._due.append(call)

    def _result(self, error: BaseException | None) -> ResultMessage:
        last = self._last
        if last is not None and last.is_error and last.api_error_status is not None:
            # The next attempt continues the transcript.
            raise ClaudeSDKError(f"The model failed with status {last.api_error_status}.")
        if error is not None:
            raise error
        if last is None:
            raise ClaudeSDKError("Claude ended without a result.")
        spent = last.total_cost_usd
        cost = None if spent is None else max(spent - self._spent, 0.0)
        self._requests.record(cost, is_last=True)
        self._calls.lose()
        return last

    # Tools of this process

    async def _invoke(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Let the flow run a tool that the model has called; return the recorded outcome."""
        id = self._claim(name, arguments)
        call, is_new = self._call(id, name, arguments)
        call.begin()
        if is_new:
            self._messages.put_nowait(call)
        return await asyncio.shield(call.answer)

    def _call(self, id: str, name: str, arguments: dict[str, Any]) -> tuple[Call, bool]:
        """Return the call, and whether it is new: not one that was interrupted."""
        known = self._calls.get(id)
        if known is None:
            same = [c for c in self._interrupted if (c.name, c.arguments) == (name, arguments)]
            known = same[0] if same else None
        if known is None:
            return self._calls.add(id, name, arguments), True
        if known in self._interrupted:
            self._interrupted.remove(known)
        return known, False

    def _claim(self, name: str, arguments: dict[str, Any]) -> str:
        """Return the id of a call, which the hook before it has noted."""
        # Settings can disable hooks.
        known = self._allowed or [(id, *used) for id, used in self._uses.items()]
        own = [one for one in known if one[1] == name]
        # A hook of the user may have changed the arguments.
        found = ([one for one in own if one[2] == arguments] or own)[0]
        self._allowed = [one for one in self._allowed if one[0] != found[0]]
        self._uses.pop(found[0], None)
        return found[0]

    async def _before_tool(self, given: Any, id: str | None, _: Any) -> Any:
        if id is not None and given["tool_name"] in self._own:
            self._allowed.append((id, given["tool_name"], given["tool_input"]))
        return {}

    # Transcripts

    async def _newest_begun(self, tried: list[str]) -> str | None:
        for session in reversed(tried):
            if any(entry["type"] == "user" for entry in await self._entries(session)):
                return session
        return None

    async def _entries(self, session: str) -> list[dict[str, Any]]:
        project = project_key_for_directory(self._task.options.cwd)
        found: Any = await self._sessions.load({"project_key": project, "session_id": session})
        return found or []

    def _missing(self, entries: list[dict[str, Any]]) -> list[Call]:
        """Return the calls whose outcome is not in a transcript, and end those whose outcome is."""
        told, outcomes = "", dict[str, dict[str, Any]]()
        for entry in entries:
            content = (entry.get("message") or {}).get("content")
            for block in content if isinstance(content, list) else [{"text": content}]:
                if entry["type"] == "user" and block.get("type") == "tool_result":
                    outcomes[str(block.get("tool_use_id"))] = block
                elif entry["type"] == "user":
                    told += str(block.get("text") or "")
        missing = []
        for call in self._calls.all():
            found = outcomes.get(call.id)
            is_own = call.name in self._own
            if call.answer.done():
                failed = bool(call.answer.result().get("is_error"))
                # The command line tool reports an interrupted call as an error.
                is_there = found is not None and (failed or not found.get("is_error"))
                if not is_there and call.id not in told:
                    missing.append(call)
            elif found is None or found.get("is_error") or is_own:
                missing.append(call)
            else:
                call.begin({"content": found.get("content"), "is_error": False})
        return missing

    async def _silence(self) -> AsyncIterator[dict[str, Any]]:
        # A deferred tool continues by itself. The end of the prompt would close the channel over
        # which it asks the hooks of the user.
        await self._is_over.wait()
        return
        yield {}

    # Options

    def _options(self, folder: Path, session: str, resume: str | None) -> ClaudeAgentOptions:
        given = self._task.options
        hooks: dict[Any, list[HookMatcher]] = dict(given.hooks or {})
        if self._own:
            own = HookMatcher(hooks=[self._before_tool])
            hooks["PreToolUse"] = [*hooks.get("PreToolUse", ()), own]
        return replace(
            given,
            cli_path=_bound(given.cli_path, folder),
            settings=self._settings(folder),
            # Such a tool runs only if the hook allows it.
            allowed_tools=[
                rule for rule in given.allowed_tools if rule.partition("(")[0] not in self._task.ask
            ],
            mcp_servers=with_servers(given, servers(self._task.tools, self._invoke)),
            hooks=hooks or None,
            include_partial_messages=True,
            session_store=self._sessions,
            session_store_flush="eager",
            session_id=session,
            resume=resume,
            fork_session=resume is not None,
        )

    def _settings(self, folder: Path) -> str | None:
        """Return the settings with a hook that defers the tools that need a person."""
        given: str | None = self._task.options.settings
        if not self._task.ask:
            return given
        text = given or "{}"
        try:
            settings = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
        except (OSError, ValueError) as error:
            raise UsageError(
                f"The settings of the options cannot be read: {error}.",
                help="Set `settings` to JSON, or to the path of a JSON file.",
            ) from None
        answers = folder / "answers.json"
        # A call that has a record does not run again.
        ended = {
            call.id: f"It has run already. {call.text()}"
            for call in self._interrupted
            if call.answer.done() and call.name not in self._own
        }
        answers.write_text(json.dumps({**self._task.answers, **ended}))
        hook = [sys.executable, "-I", "-S", _HOOK, str(answers)]
        # If Python itself fails, its exit code would let the tool run.
        command = f"{shlex.join(hook)} || exit 2"
        own = {
            "matcher": "|".join(sorted(self._task.ask)),
            "hooks": [{"type": "command", "command": command}],
        }
        hooks = settings.get("hooks", {})
        hooks = {**hooks, "PreToolUse": [*hooks.get("PreToolUse", ()), own]}
        return json.dumps({**settings, "disableAllHooks": False, "hooks": hooks})


def with_servers(options: ClaudeAgentOptions, own: dict[str, Any]) -> Any:
    """Return the servers of the options with those of the runner."""
    if not own:
        return options.mcp_servers
    given = options.mcp_servers
    if not isinstance(given, dict):
        raise UsageError(
            "The options name a file of MCP servers, and the runner has tools of its own.",
            help="Set `mcp_servers` to a dictionary of servers.",
        )
    return {**given, **own}


def _text(message: Any) -> str:
    """Return the piece of text in a message, which exists with `include_partial_messages`."""
    event = getattr(message, "event", None)
    delta = event.get("delta") if isinstance(event, dict) else None
    is_text = isinstance(delta, dict) and delta.get("type") == "text_delta"
    return str(delta["text"]) if is_text and delta is not None else ""


def _is_deferred(entries: list[dict[str, Any]]) -> bool:
    """Return whether a transcript ends with a tool that waits for a person."""
    for entry in reversed(entries):
        if (entry.get("attachment") or {}).get("type") == "hook_deferred_tool":
            return True
        if entry["type"] in ("user", "assistant"):
            return False
    return False


def _bound(cli: str | Path | None, folder: Path) -> str | Path | None:
    """Write a script that starts the command line tool so that it ends with this process.

    The script writes its process id, which is that of the child process, to the file `pid`.
    """
    found = cli or (_BUNDLED if _BUNDLED.exists() else shutil.which("claude"))
    if found is None:
        # The SDK looks in more places.
        return None
    script = folder / "claude"
    command = shlex.join(bound_command(os.fspath(found), []))
    pid = shlex.quote(os.fspath(folder / _PID))
    script.write_text(f'#!/bin/sh\necho $$ > {pid}\nexec {command} "$@"\n')
    script.chmod(0o700)
    return script
