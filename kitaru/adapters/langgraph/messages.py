"""Results of model requests and tools as JSON, and back.

Messages use LangChain's own form, `messages_to_dict`, which later versions read. Nothing of a
record is imported or executed: classes come from the agent, never from the record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from langchain_core.messages import BaseMessage, messages_from_dict, messages_to_dict
from langgraph.types import Command, Send
from pydantic import BaseModel, TypeAdapter

from kitaru.errors import UsageError, ValueNotEncodable

# A dict with this key is not data of the user.
_MARK = "kitaru"
_FIELDS = ("graph", "update", "resume", "goto")
ATTRIBUTES = {"harness": "langchain", "version": version("langchain-core"), "format": "messages/1"}
"""Recorded with each step."""


def encode(value: Any) -> Any:
    """Return a message, a command, or JSON data that contains them, as JSON.

    Raises:
        ValueNotEncodable: the value contains something else.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case BaseMessage():
            (message,) = messages_to_dict([value])
            return {_MARK: "message", "value": message}
        case Send():
            return {_MARK: "send", "node": value.node, "value": encode(value.arg)}
        case Command():
            return {_MARK: "command", **{name: encode(getattr(value, name)) for name in _FIELDS}}
        case tuple():
            return {_MARK: "tuple", "value": [encode(one) for one in value]}
        case list():
            return [encode(one) for one in value]
        case Mapping() if all(isinstance(key, str) for key in value):
            inner = {key: encode(one) for key, one in value.items()}
            return {_MARK: "dict", "value": inner} if _MARK in inner else inner
    raise ValueNotEncodable(
        f"A tool returned {type(value).__name__}, which is neither JSON nor a message.",
        help="Return text, JSON data, a ToolMessage or a Command. Or let the tool run in the "
        "flow's body: KitaruMiddleware(flow_tools=[…]).",
    )


def decode(value: Any) -> Any:
    """Return what `encode` was called with."""
    match value:
        case {"kitaru": "message", "value": message}:
            return messages_from_dict([message])[0]
        case {"kitaru": "send", "node": node, "value": argument}:
            return Send(node, decode(argument))
        case {"kitaru": "command"}:
            return Command(**{name: decode(value[name]) for name in _FIELDS})
        case {"kitaru": "tuple", "value": parts}:
            return tuple(decode(one) for one in parts)
        case {"kitaru": "dict", "value": inner}:
            return {key: decode(one) for key, one in inner.items()}
        case dict():
            return {key: decode(one) for key, one in value.items()}
        case list():
            return [decode(one) for one in value]
    return value


def encode_structured(value: Any) -> Any:
    """Return a structured response as JSON, with the name of its class."""
    match value:
        case None:
            return None
        case BaseModel():
            data: Any = value.model_dump(mode="json", by_alias=True)
        case dict() | list():
            return {"class": "", "value": value}
        case _ if dataclasses.is_dataclass(value):
            data = TypeAdapter(type(value)).dump_python(value, mode="json")
        case _:
            raise ValueNotEncodable(
                f"The structured response is {type(value).__name__}, which is not JSON.",
                help="Use a pydantic model, a dataclass or a JSON Schema as response_format.",
            )
    return {"class": type(value).__name__, "value": data}


def decode_structured(record: Any, response_format: Any) -> Any:
    """Return a structured response of a class of the agent's `response_format`."""
    if record is None or not record["class"]:
        return record and record["value"]
    for schema in _schemas(response_format):
        if getattr(schema, "__name__", "") == record["class"]:
            return TypeAdapter(schema).validate_python(record["value"])
    raise UsageError(
        f"The recorded response is a {record['class']}, which the agent's response_format is not.",
        help="Finish this execution with the version of the code that it was started with.",
    )


def _schemas(response_format: Any) -> Iterable[Any]:
    """Yield the classes of a response format: a class, or a strategy with one or several."""
    if isinstance(response_format, type):
        yield response_format
    for spec in getattr(response_format, "schema_specs", None) or ():
        yield spec.schema
    for name in ("schema_spec", "schema"):
        found = getattr(response_format, name, None)
        if found is not None:
            yield getattr(found, "schema", found)
