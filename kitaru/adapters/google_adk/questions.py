"""What agents ask people in a flow: confirmations, and results of long-running tools, as waits."""

from __future__ import annotations

import asyncio
from typing import Any

from google.adk.events import Event
from google.genai import types

from kitaru import harness
from kitaru.adapters.google_adk.runs import Run
from kitaru.errors import UsageError

_CONFIRMATION = "adk_request_confirmation"
_CREDENTIAL = "adk_request_credential"
_INPUT = "adk_request_input"
# With one of these as `status`, a long-running tool is done when it returns.
_FINAL = frozenset(
    {"accepted", "approved", "cancelled", "complete", "completed", "declined", "done", "error"}
    | {"failed", "finished", "ok", "rejected", "success", "succeeded"}
)


class Questions:
    """The calls of a run that a person or another system must answer."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._asked: dict[str, types.FunctionCall] = {}
        # What the tools returned when they were called.
        self._first: dict[str, Any] = {}

    def note(self, event: Event) -> None:
        """Note the calls of an event that are not done when their tools return."""
        for call in event.get_function_calls():
            if call.id in (event.long_running_tool_ids or ()):
                self._asked[call.id] = call
        for response in event.get_function_responses():
            self._first[response.id] = response.response

    async def answers(self) -> list[types.Content]:
        """Wait for all answers, and return the messages with them, empty if nothing was asked.

        ADK keeps a message that answers a confirmation from the model, so results of long-running
        tools are in a message of their own, the first one.
        """
        pending = [call for call in self._asked.values() if _is_pending(self._first.get(call.id))]
        with self._run.scope:
            waits = [harness.wait(**self._wait(call)) for call in pending]
        answered = list(zip(pending, await asyncio.gather(*waits), strict=True))
        messages = []
        for confirms in (False, True):
            parts = [
                types.Part(
                    function_response=types.FunctionResponse(
                        id=call.id, name=call.name, response=_response(call, answer)
                    )
                )
                for call, answer in answered
                if (call.name == _CONFIRMATION) == confirms
            ]
            if parts:
                messages.append(types.Content(role="user", parts=parts))
        return messages

    def _wait(self, call: types.FunctionCall) -> dict[str, Any]:
        """Return the arguments of the wait for the answer to a call."""
        args = call.args or {}
        short = self._run.short(call.id or "")
        if call.name == _CREDENTIAL:
            raise UsageError(
                f"{self._run.name} asks for a credential, which a flow must not record.",
                help="Authenticate before the flow runs, or read a token with kitaru.secret.",
            )
        if call.name == _CONFIRMATION:
            original = args["originalFunctionCall"]
            tool = original["name"]
            payload = (args.get("toolConfirmation") or {}).get("payload")
            return {
                "name": f"approve-{tool}",
                "key": f"approve-{tool}-{self._run.short(original['id'])}",
                "question": _shown("Run", tool, original.get("args") or {}),
                # With a payload, the answer may contain one as well.
                "schema": bool if payload is None else bool | dict[str, Any],
                "metadata": {"tool": tool, "arguments": original.get("args"), "payload": payload},
            }
        if call.name == _INPUT:
            return {
                "name": "answer",
                "key": f"answer-{short}",
                "question": str(args.get("message") or "What is the answer?"),
                "schema": args.get("response_schema") or {},
                "metadata": {"payload": args.get("payload")},
            }
        return {
            "name": f"answer-{call.name}",
            "key": f"answer-{call.name}-{short}",
            "question": _shown("What is the result of", call.name or "", args),
            # Any JSON is an answer.
            "schema": {},
            "metadata": {
                "tool": call.name, "arguments": args, "response": self._first.get(call.id)
            },
        }  # fmt: skip


def _is_pending(first: Any) -> bool:
    """Return whether a call waits for an answer, after the response of its tool."""
    status = first.get("status") if isinstance(first, dict) else None
    return str(status).lower() not in _FINAL


def _response(call: types.FunctionCall, answer: Any) -> dict[str, Any]:
    if call.name == _CONFIRMATION:
        return answer if isinstance(answer, dict) else {"confirmed": answer}
    return answer if isinstance(answer, dict) else {"result": answer}


def _shown(verb: str, tool: str, args: dict[str, Any]) -> str:
    return f"{verb} {tool}({', '.join(f'{name}={value!r}' for name, value in args.items())})?"
