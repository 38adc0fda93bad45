"""Turn a model's answer into text, a reply with tool calls, or an instance of a type."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from kitaru.errors import AnswerInvalid, ModelAnswerInvalid
from kitaru.runtime.llm.replies import Reply, ToolCall
from kitaru.runtime.schema.types import askable_schema, from_json, to_json_schema

if TYPE_CHECKING:
    from kitaru.runtime.llm.exchange import Answer

_FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
_ONLY = "value"


class Shape:
    """The type of an answer. `schema` is sent to the provider, and always describes an object."""

    def __init__(self, type: Any) -> None:
        """Raise UsageError if the type has no JSON schema, or one that cannot be checked."""
        self._type = type
        # If the type is a dict, only the schema can check the answer.
        is_dict = isinstance(type, dict)
        own = askable_schema(type, "the model's answer") if is_dict else to_json_schema(type)
        self._wrapped = own.get("type") != "object"
        self.schema = _around(own) if self._wrapped else own

    def read(self, answer: Answer) -> Any:
        """Return the answer as an instance of the type; raises ModelAnswerInvalid."""
        found = _parsed(answer.text, "answer")
        if self._wrapped:
            if not isinstance(found, dict) or _ONLY not in found:
                raise ModelAnswerInvalid(f'The answer is no JSON object with "{_ONLY}".')
            found = found[_ONLY]
        try:
            return from_json(found, self._type, "the answer")
        except AnswerInvalid as error:
            raise ModelAnswerInvalid(error.message, help=error.help) from None


def text(answer: Answer) -> str:
    """Return the text of an answer."""
    return answer.text


def reply(answer: Answer) -> Reply:
    """Return the text and the tool calls of an answer; raises ModelAnswerInvalid."""
    calls = [ToolCall(c["id"], c["name"], _arguments(c)) for c in answer.tool_calls]
    return Reply(answer.text, tuple(calls))


def _around(own: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that contains the value: providers accept only objects."""
    inner = {key: part for key, part in own.items() if key != "$defs"}
    outer = {"type": "object", "properties": {_ONLY: inner}, "required": [_ONLY]}
    return outer | ({"$defs": own["$defs"]} if "$defs" in own else {})


def _arguments(call: dict[str, str]) -> dict[str, Any]:
    found = _parsed(call["arguments"] or "{}", f"call of {call['name']}")
    if not isinstance(found, dict):
        raise ModelAnswerInvalid(f"The arguments of {call['name']} are no JSON object.")
    return found


def _parsed(text: str, what: str) -> Any:
    fenced = _FENCED.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except ValueError as error:
        raise ModelAnswerInvalid(f"The {what} is no JSON: {error}.") from None
