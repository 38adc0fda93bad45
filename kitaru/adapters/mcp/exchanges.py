"""Requests to an MCP server, each with the questions that the server asks before it answers.

    buy(item)  ->  shop-buy.call     the tool, or its questions
                   shop-buy.ask      a wait for each question
                   shop-buy.call_2   the tool with the answers

A server returns its questions with a state, which the next request contains. The state is sealed
with a key that a server may lose when it restarts. The request then begins again with the answers
that are known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from mcp import Client, InputRequiredRoundsExceededError, MCPError
from mcp.client.session import ClientRequestContext
from mcp_types import (
    CONNECTION_CLOSED,
    CallToolResult,
    ElicitRequest,
    ElicitRequestURLParams,
    ElicitResult,
    ErrorData,
    InputRequest,
    InputRequiredResult,
)
from pydantic import BaseModel

from kitaru import harness
from kitaru.adapters.mcp.connection import Connection
from kitaru.errors import UsageError

R = TypeVar("R", bound=BaseModel)
Send = Callable[[Client, dict[str, Any] | None, str | None], Awaitable[R | InputRequiredResult]]
"""Makes a request: with a client, the answers, and the state of the questions that they answer."""

_VERSION = f"mcp {version('mcp')}"
_POLL_SECONDS = 0.05


class Exchange(Generic[R]):
    """A request and its questions."""

    def __init__(self, connection: Connection, send: Send[R], returns: type[R]) -> None:
        self._connection, self._send, self._returns = connection, send, returns
        # A person's answers so far, by question.
        self._known: dict[str, ElicitResult] = {}

    async def outside(self) -> R:
        """Make the request; the callbacks of the client answer."""
        result = await self._round(None, in_flow=False)
        assert not isinstance(result, InputRequiredResult), "the callbacks have answered"
        return result

    async def inside(
        self, scope: harness.scope, kind: harness.StepKind, arguments: dict[str, Any] | None
    ) -> R:
        """Make the request in steps, and let a person answer what the client cannot."""
        asked: InputRequiredResult | None = None
        with scope:
            while True:
                result = await self._step(asked, kind, arguments)
                if not isinstance(result, InputRequiredResult):
                    return result
                questions = _for_a_person(result)
                # All of them are asked at once.
                answers = await asyncio.gather(*[_ask(question) for question in questions])
                for question, answer in zip(questions, answers, strict=True):
                    self._known[_text(question)] = answer
                asked = result

    async def _step(
        self,
        asked: InputRequiredResult | None,
        kind: harness.StepKind,
        arguments: dict[str, Any] | None,
    ) -> R | InputRequiredResult:
        async def body() -> Any:
            return as_json(await self._round(asked, in_flow=True))

        result: R | InputRequiredResult = await harness.step(
            "call",
            body,
            kind=kind,
            arguments=arguments,
            version=_VERSION,
            read=lambda recorded: result_of(recorded, self._returns),
        )
        return result

    async def _round(
        self, asked: InputRequiredResult | None, *, in_flow: bool
    ) -> R | InputRequiredResult:
        """Make the request; return its result, or the questions of the server for a person."""
        client = await self._connection.client()
        refusals = self._connection.refusals
        try:
            result = await self._rounds(client, asked, in_flow)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self._connection.drop(client)
            failure: MCPError | None = error
        else:
            if not isinstance(result, CallToolResult) or not result.is_error:
                return result
            failure = None
        if in_flow and self._connection.refusals > refusals:
            raise UsageError(
                "The MCP server asks a person in the middle of a call, where a flow cannot wait.",
                help="Let the server return its questions (protocol 2026-07-28), or answer them "
                "with Client(…, elicitation_callback=…).",
            )
        if failure is not None:
            raise failure
        return result

    async def _rounds(
        self, client: Client, asked: InputRequiredResult | None, in_flow: bool
    ) -> R | InputRequiredResult:
        waits = in_flow and client.elicitation_callback == self._connection.refuse
        begins_again = False
        for _ in range(client.input_required_max_rounds + 1):
            try:
                result = await self._send(client, *await self._answered(client, asked))
            except MCPError as error:
                if asked is None or asked.request_state is None or not _is_of_state(error):
                    raise
                asked, begins_again = None, True
                continue
            if not isinstance(result, InputRequiredResult):
                return result
            if waits and any(
                not begins_again or _text(one) not in self._known for one in _for_a_person(result)
            ):
                return result
            if not result.input_requests:
                # The server is not ready.
                await asyncio.sleep(_POLL_SECONDS)
            asked = result
        raise InputRequiredRoundsExceededError(client.input_required_max_rounds)

    async def _answered(
        self, client: Client, asked: InputRequiredResult | None
    ) -> tuple[dict[str, Any] | None, str | None]:
        if asked is None:
            return None, None
        answers = {
            id: self._known.get(_text(question)) or await _callback(client, id, question)
            for id, question in (asked.input_requests or {}).items()
        }
        return answers or None, asked.request_state


def _for_a_person(asked: InputRequiredResult) -> list[ElicitRequest]:
    questions = (asked.input_requests or {}).values()
    return [one for one in questions if isinstance(one, ElicitRequest)]


async def _callback(client: Client, id: str, question: InputRequest) -> Any:
    context = ClientRequestContext(session=client.session, request_id=id, meta=None)
    answer = await client.session.dispatch_input_request(context, question)
    if isinstance(answer, ErrorData):
        raise MCPError.from_error_data(answer)
    return answer


def _ask(question: ElicitRequest) -> Awaitable[ElicitResult]:
    """Take the id of the wait now."""
    params = question.params
    if isinstance(params, ElicitRequestURLParams):
        asked = f"{params.message} {params.url}"
        return _answer_of(harness.wait(name="ask", question=asked, schema=bool))
    form = {**params.requested_schema, "type": ["object", "null"]}
    return _answer_of(harness.wait(name="ask", question=params.message, schema=form))


async def _answer_of(wait: Awaitable[Any]) -> ElicitResult:
    """Turn true, false, null or the fields of a form into what the server expects."""
    content = await wait
    if content is None or content is False:
        return ElicitResult(action="decline")
    return ElicitResult(action="accept", content=None if content is True else content)


def _is_of_state(error: MCPError) -> bool:
    return "requeststate" in error.message.lower()


def as_json(value: BaseModel) -> Any:
    """Return the fields that were set, by the names of the protocol: `result_of` is equal."""
    return value.model_dump(mode="json", by_alias=True, exclude_unset=True)


def result_of(recorded: Any, returns: type[R]) -> R | InputRequiredResult:
    """Return what the server returned."""
    if recorded.get("resultType") == "input_required":
        return InputRequiredResult.model_validate(recorded)
    return returns.model_validate(recorded)


def _text(question: InputRequest) -> str:
    return json.dumps(as_json(question), sort_keys=True)
