"""Replies of models with tool calls: values that cross cuts and replays."""

from __future__ import annotations

import json
from typing import Any

from kitaru.wire.structs import Struct


class ToolCall(Struct):
    """A tool call that a model requests, with its arguments by name.

    `id` is the provider's id of the call. Empty strings are as the provider sent them.
    """

    id: str
    name: str
    arguments: dict[str, Any]

    def answer(self, result: Any) -> dict[str, Any]:
        """Return the message with the tool's result for the model: a string, or JSON data."""
        content = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        return {"role": "tool", "tool_call_id": self.id, "content": content}


class Reply(Struct):
    """The answer of a model with tools: a text, tool calls, or both.

    Example:
        messages = [{"role": "user", "content": question}]
        while (reply := kitaru.llm(messages, tools=TOOLS)).tool_calls:
            results = [call.answer(use(call.name, call.arguments)) for call in reply.tool_calls]
            messages = [*messages, reply.message(), *results]
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()

    def message(self) -> dict[str, Any]:
        """Return this reply as a message, to continue the conversation."""
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in self.tool_calls
        ]
        said: dict[str, Any] = {"role": "assistant", "content": self.text}
        return {**said, "tool_calls": calls} if calls else said
