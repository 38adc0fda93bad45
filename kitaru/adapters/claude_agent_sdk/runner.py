"""Run Claude in a flow: a turn of its command line tool is a step, a deferred tool a wait.

    run(prompt)  ->  coder.turn              up to the result, or to a tool that needs a person
                     coder.approve-<call>    the wait for the person
                     coder.turn_2            the same session, with the answer

A turn is one unit for the flow. Its transcript is the finer journal: the next attempt at a turn
whose process died continues the transcript, so tools that have a result there do not run again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Collection
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import claude_agent_sdk
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKError,
    DeferredToolUse,
    ResultMessage,
    TextBlock,
    ToolUseBlock,
    project_key_for_directory,
    query,
)

from kitaru import harness
from kitaru.adapters.child_processes import bound_command
from kitaru.adapters.claude_agent_sdk.sessions import Attempts, KitaruSessionStore
from kitaru.errors import ContextError, UsageError

_VERSION = f"claude-agent-sdk {version('claude-agent-sdk')}"
_INTERRUPTED = "Continue."
_HOOK = str(Path(__file__).with_name("permission_hook.py"))
_BUNDLED = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


class KitaruClaudeRunner:
    """Runs Claude; in a flow, each turn is recorded once.

    Outside of flows, and inside checkpoints, it is `query`. Messages of a running turn are live
    events for `kitaru.harness.listen`.

    Args:
        options: the options of each run. `session_store` and `session_id` are set by the runner;
            the other ones, such as hooks, apply as usual.
        name: name of the agent, with which the ids of its records begin.
        ask: names of tools, such as `Bash`. A person approves each call of them: the flow waits
            for true or false. Rules of `allowed_tools` for these tools do not apply.

    Raises:
        UsageError: the options contain a session store or the id of a session.

    Example:
        coder = KitaruClaudeRunner(ClaudeAgentOptions(model="…"), name="coder", ask=["Bash"])

        @flow
        async def fix(problem: str) -> str:
            return (await coder.run(problem)).result
    """

    def __init__(
        self, options: ClaudeAgentOptions, *, name: str = "claude", ask: Collection[str] = ()
    ) -> None:
        if options.session_store is not None or options.session_id is not None:
            raise UsageError(
                "The options of KitaruClaudeRunner contain session_store or session_id.",
                help="Leave them out: in a flow, the execution's store keeps the sessions.",
            )
        self._options, self._name, self._ask = options, name, frozenset(ask)

    async def run(self, prompt: str, *, resume: str | None = None) -> ResultMessage:
        """Run Claude until it is done.

        Args:
            prompt: the user's message.
            resume: `session_id` of the result of an earlier run, to continue its conversation.
                The earlier session does not change. Default: the options' `resume`.

        Raises:
            ContextError: the runner has tools to `ask` about, and the call is outside of a flow's
                body.
            ClaudeSDKError: the command line tool cannot be started, or the model does not answer.
        """
        resume = resume or self._options.resume
        found = harness.current_execution()
        if found is None and self._ask:
            raise ContextError(
                f"The agent {self._name} runs outside of a flow's body, where nobody can be asked.",
                help="Run it in the body of a flow, or leave out `ask`.",
            )
        if found is None:
            return await _last(query(prompt=prompt, options=replace(self._options, resume=resume)))
        sessions = KitaruSessionStore(found.store)
        answers: dict[str, bool] = {}
        with harness.scope(self._name):
            while True:
                turn = _Turn(self._options, sessions, self._ask, dict(answers), prompt, resume)
                result = await self._step(turn, found)
                deferred = result.deferred_tool_use
                if deferred is None:
                    return result
                answers[deferred.id] = await _approval(deferred)
                resume = result.session_id

    async def _step(self, turn: _Turn, execution: harness.Execution) -> ResultMessage:
        async def body() -> Any:
            step = harness.current_step()
            assert step is not None
            result = await turn.run(Attempts(execution.store, execution.exec_id, step))
            return asdict(result)

        result: ResultMessage = await harness.step("turn", body, version=_VERSION, read=_result)
        return result


def _result(recorded: dict[str, Any]) -> ResultMessage:
    """Return a recorded result, without the fields that this version of the SDK does not have."""
    known = {one.name for one in fields(ResultMessage)}
    given = {name: value for name, value in recorded.items() if name in known}
    if given.get("deferred_tool_use") is not None:
        given["deferred_tool_use"] = DeferredToolUse(**given["deferred_tool_use"])
    return ResultMessage(**given)


async def _approval(call: DeferredToolUse) -> bool:
    shown = ", ".join(f"{name}={value!r}" for name, value in call.input.items())
    return bool(
        await harness.wait(
            name=f"approve-{call.name}",
            question=f"Run {call.name}({shown})?",
            schema=bool,
            metadata={"tool": call.name, "arguments": call.input},
            key=f"approve-{call.name}-{call.id}",
        )
    )


class _Turn:
    """A run of the command line tool, up to a result."""

    def __init__(
        self,
        options: ClaudeAgentOptions,
        sessions: KitaruSessionStore,
        ask: frozenset[str],
        answers: dict[str, bool],
        prompt: str,
        resume: str | None,
    ) -> None:
        self._options, self._sessions = options, sessions
        self._ask, self._answers = ask, answers
        self._prompt, self._resume = prompt, resume
        self._is_over = asyncio.Event()

    async def run(self, attempts: Attempts) -> ResultMessage:
        """Run it in a new session, which continues the last one that has a transcript."""
        tried = await asyncio.to_thread(attempts.read)
        interrupted = await self._newest_begun(tried)
        resume = interrupted or self._resume
        spent = await self._spent(resume)
        session = str(uuid.uuid4())
        await asyncio.to_thread(attempts.begin, len(tried), session)
        prompt: Any = self._prompt
        if interrupted:
            is_deferred = _is_deferred(await self._entries(interrupted))
            prompt = self._silence() if is_deferred else _INTERRUPTED
        elif self._answers:
            prompt = self._silence()
        with tempfile.TemporaryDirectory(prefix="kitaru-") as folder:
            options = replace(
                self._options,
                cli_path=_bound(self._options.cli_path, Path(folder)),
                settings=self._settings(Path(folder)),
                # Such a tool runs only if the hook allows it.
                allowed_tools=[
                    rule
                    for rule in self._options.allowed_tools
                    if rule.partition("(")[0] not in self._ask
                ],
                session_store=self._sessions,
                session_store_flush="eager",
                session_id=session,
                resume=resume,
                fork_session=resume is not None,
            )
            return await self._recorded(query(prompt=prompt, options=options), spent)

    async def _newest_begun(self, tried: list[str]) -> str | None:
        for session in reversed(tried):
            if any(entry["type"] == "user" for entry in await self._entries(session)):
                return session
        return None

    async def _spent(self, session: str | None) -> float:
        """Return the price of a session so far, with which that of its continuation begins."""
        entries = [] if session is None else await self._entries(session)
        states = [entry for entry in entries if entry["type"] == "cost-state"]
        return float(states[-1].get("totalCostUSD", 0)) if states else 0.0

    async def _entries(self, session: str) -> list[dict[str, Any]]:
        project = project_key_for_directory(self._options.cwd)
        found: Any = await self._sessions.load({"project_key": project, "session_id": session})
        return found or []

    async def _silence(self) -> AsyncIterator[dict[str, Any]]:
        # A deferred tool continues by itself. The end of the prompt would close the channel over
        # which it asks the hooks of the user.
        await self._is_over.wait()
        return
        yield {}

    def _settings(self, folder: Path) -> str | None:
        """Return the settings with a hook that defers the tools that need a person."""
        given: str | None = self._options.settings
        if not self._ask:
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
        answers.write_text(json.dumps(self._answers))
        hook = [sys.executable, "-I", "-S", _HOOK, str(answers)]
        # If Python itself fails, its exit code would let the tool run.
        command = f"{shlex.join(hook)} || exit 2"
        own = {
            "matcher": "|".join(sorted(self._ask)),
            "hooks": [{"type": "command", "command": command}],
        }
        hooks = settings.get("hooks", {})
        hooks = {**hooks, "PreToolUse": [*hooks.get("PreToolUse", ()), own]}
        return json.dumps({**settings, "disableAllHooks": False, "hooks": hooks})

    async def _recorded(self, messages: AsyncIterator[Any], spent: float) -> ResultMessage:
        requests: dict[str, _Request] = {}
        last: ResultMessage | None = None
        before = time.monotonic()
        async for message in messages:
            harness.emit(message, _text(message))
            now = time.monotonic()
            if isinstance(message, AssistantMessage) and message.message_id:
                request = requests.setdefault(message.message_id, _Request(before))
                request.add(message, now)
            elif isinstance(message, ResultMessage):
                last = message
                self._is_over.set()
                if message.is_error and message.api_error_status is not None:
                    # The next attempt continues the transcript.
                    status = message.api_error_status
                    raise ClaudeSDKError(f"The model failed with status {status}.")
            before = now
        if last is None:
            raise ClaudeSDKError("Claude ended without a result.")
        cost = None if last.total_cost_usd is None else max(last.total_cost_usd - spent, 0.0)
        for number, request in enumerate(requests.values(), 1):
            # The price is known for the turn as a whole.
            request.record(cost if number == len(requests) else None)
        return last


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


class _Request:
    """A request to the model: its messages, one for each part of the response."""

    def __init__(self, began: float) -> None:
        self._began = self._ended = began
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._used: dict[str, Any] = {}
        self._model = ""
        self._finish: str | None = None

    def add(self, message: AssistantMessage, now: float) -> None:
        self._ended = now
        self._model, self._used = message.model, message.usage or self._used
        self._finish = message.stop_reason or self._finish
        for block in message.content:
            if isinstance(block, TextBlock):
                self._texts.append(block.text)
            elif isinstance(block, ToolUseBlock):
                call = {"id": block.id, "name": block.name, "arguments": block.input}
                self._calls.append(call)

    def record(self, cost: float | None) -> None:
        harness.usage(
            model=self._model,
            provider="anthropic",
            input_tokens=self._used.get("input_tokens"),
            output_tokens=self._used.get("output_tokens"),
            cost_usd=cost,
            latency_ms=(self._ended - self._began) * 1000,
            response="".join(self._texts),
            tool_calls=self._calls or None,
            finish=self._finish,
            cache_read_tokens=self._used.get("cache_read_input_tokens") or None,
            cache_write_tokens=self._used.get("cache_creation_input_tokens") or None,
        )


async def _last(messages: AsyncIterator[Any]) -> ResultMessage:
    found = [message async for message in messages if isinstance(message, ResultMessage)]
    if not found:
        raise ClaudeSDKError("Claude ended without a result.")
    return found[-1]


def _bound(cli: str | Path | None, folder: Path) -> str | Path | None:
    """Write a script that starts the command line tool so that it ends with this process."""
    found = cli or (_BUNDLED if _BUNDLED.exists() else shutil.which("claude"))
    if found is None:
        # The SDK looks in more places.
        return None
    script = folder / "claude"
    command = shlex.join(bound_command(os.fspath(found), []))
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o700)
    return script
