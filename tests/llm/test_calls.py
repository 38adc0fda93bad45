"""What a model call returns and leaves behind: types, tools, pieces, and what may be kept of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, Field

import kitaru
from kitaru import KitaruClient, checkpoint, config, flow
from kitaru.errors import ModelAnswerInvalid, UsageError
from kitaru.runtime import codec
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.llm import providers
from kitaru.runtime.telemetry.log_redaction import WITHHELD
from kitaru.stores import open_store
from kitaru.wire.records import InvocationRecord

MODEL = "vendor/m-1"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
KEY = "sk-" + "a1B2c3D4" * 4


class City(BaseModel):
    name: str
    people: int = Field(ge=0)


class Tree(BaseModel):
    label: str
    below: list[Tree] = []


@dataclass
class Model:
    """Answers with what it was told to, in order, and keeps what it was asked."""

    says: list[Any] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    def __call__(self, request: Any, resolved: Any, pieces: Any) -> providers.Answer:
        self.asked.append(request)
        said = self.says.pop(0)
        calls = tuple(said) if isinstance(said, list) else ()
        text = "" if calls else said
        for word in text.split():
            pieces.take(word)
        return providers.Answer(text, 10, 5, 0.25, calls)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    made = Model()
    monkeypatch.setattr(providers, "_reach", made)
    yield made
    config.configure(redact=None, capture=None)


def tool(name: str, arguments: str) -> dict[str, str]:
    return {"id": f"id-{name}", "name": name, "arguments": arguments}


def ran(body: Callable[[], Any], **options: Any) -> tuple[Any, list[InvocationRecord]]:
    """Run a body as a flow; return its result, the same from the journal, and the records."""
    handle = flow(name="body", **options)(body).run()
    first = handle.wait(60)
    journal = Journal.open(open_store(), handle.exec_id)
    assert codec.decode(journal.fetch(journal.end().result)) == first  # type: ignore[union-attr,arg-type]
    return first, journal.invocations()


def in_checkpoint(work: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    made = checkpoint(name="work", cache=False, **options)(work)
    return lambda: made()


@pytest.mark.parametrize(
    ("schema", "said", "value"),
    [
        (City, '{"name": "Ghent", "people": 267709}', City(name="Ghent", people=267709)),
        (City, '```json\n{"name": "Ulm", "people": 1}\n```', City(name="Ulm", people=1)),
        (list[int], '{"value": [1, 2]}', [1, 2]),
        (bool, '{"value": true}', True),
        (Tree, '{"value": {"label": "a"}}', Tree(label="a")),
    ],
)
@pytest.mark.parametrize("where", ["body", "checkpoint"])
def test_an_instance(model: Model, schema: Any, said: str, value: Any, where: str) -> None:
    model.says = [said]

    def ask() -> Any:
        return kitaru.llm("which?", model=MODEL, schema=schema)

    assert ran(ask if where == "body" else in_checkpoint(ask))[0] == value
    assert model.asked[0].schema["type"] == "object"


@pytest.mark.parametrize("bad", ["Ghent", '{"name": "Ghent", "people": -1}', "[]"])
def test_an_answer_that_does_not_fit_is_sent_back_once(model: Model, bad: str) -> None:
    model.says = [bad, '{"name": "Ghent", "people": 3}']
    value, records = ran(lambda: kitaru.llm("which?", system="S", model=MODEL, schema=City))
    assert value == City(name="Ghent", people=3)
    first, second = (request.messages() for request in model.asked)
    assert second[:2] == first and second[2] == {"role": "assistant", "content": bad}
    assert second[3]["role"] == "user" and "answer" in second[3]["content"]
    assert len(records[0].calls) == 2


def test_two_that_do_not_fit_are_a_failure(model: Model) -> None:
    model.says = ["no", "never"]
    found: list[str] = []

    def body() -> str:
        try:
            kitaru.llm("which?", model=MODEL, schema=City)
        except ModelAnswerInvalid as error:
            found.append(error.message)
        return found[0]

    assert "no JSON" in ran(body)[0]
    assert not model.says


def test_tool_calls_come_back_typed(model: Model) -> None:
    model.says = [[tool("look", '{"at": [1]}')], "It is 7."]

    def body() -> Any:
        messages: list[dict[str, Any]] = [{"role": "user", "content": "What is there?"}]
        reply = kitaru.llm(messages, model=MODEL, tools=[TOOL])
        answers = [call.answer({"found": 7}) for call in reply.tool_calls]
        last = kitaru.llm([*messages, reply.message(), *answers], model=MODEL, tools=[TOOL])
        return reply, last

    (reply, last), _ = ran(body)
    assert reply == kitaru.Reply("", (kitaru.ToolCall("id-look", "look", {"at": [1]}),))
    assert last == kitaru.Reply("It is 7.")
    said, answered = model.asked[1].messages()[1:]
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"at": [1]}
    assert answered == {"role": "tool", "tool_call_id": "id-look", "content": '{"found": 7}'}


@pytest.mark.parametrize("bad", ["{", "[1]"])
def test_arguments_that_are_no_object(model: Model, bad: str) -> None:
    model.says = [[tool("look", bad)], [tool("look", "")]]
    reply, _ = ran(lambda: kitaru.llm("x", model=MODEL, tools=[TOOL]))
    assert reply.tool_calls[0].arguments == {} and len(model.asked) == 2


def test_pieces_are_seen_once_and_the_whole_is_recorded(model: Model) -> None:
    model.says = ["one two"]
    pieces: list[str] = []

    @flow
    def streams() -> str:
        return kitaru.llm("x", model=MODEL, stream=pieces.append)

    handle = streams.run()
    assert handle.wait(60) == "one two" and pieces == ["one", "two"]
    assert streams.resume(handle.exec_id).wait(60) == "one two"
    assert pieces == ["one", "two"] and len(model.asked) == 1


def kept(model: Model, **llm: Any) -> Callable[..., dict[str, Any]]:
    def run(flow: Any = None, checkpoint: Any = None) -> dict[str, Any]:
        model.says = ["the answer"]
        work = in_checkpoint(lambda: kitaru.llm("p", model=MODEL, **llm), capture=checkpoint)
        return ran(work, capture=flow)[1][0].calls[0]

    return run


TEXTS = {"prompt", "response", "system"}


def test_argument_over_checkpoint_over_flow_over_configuration(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept(model)().keys() >= TEXTS
    monkeypatch.setenv("KITARU_CAPTURE", "off")
    assert kept(model)().keys() == {"asked", "model", "resolved"}
    config.configure(capture="metadata")
    assert not kept(model)().keys() & TEXTS and kept(model)()["tokens"]
    assert kept(model)(flow="off").keys() == {"asked", "model", "resolved"}
    assert kept(model)(flow="off", checkpoint="full").keys() >= TEXTS
    assert not kept(model, capture="metadata")(flow="off", checkpoint="full").keys() & TEXTS


def test_what_a_flow_says_counts_for_a_call_of_its_own(model: Model) -> None:
    model.says = ["a", "b"]
    _, records = ran(
        lambda: [kitaru.llm("x", model=MODEL), kitaru.llm("y", model=MODEL, capture="full")],
        capture="metadata",
    )
    assert ["prompt" in record.calls[0] for record in records] == [False, True]


def test_texts_are_redacted_and_the_value_is_not(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_PASSWORD", "correct-horse")
    config.configure(redact=lambda text: text.replace("Ada", "[name]"))
    model.says = [f"Ada has {KEY}"]
    value, [record] = ran(lambda: kitaru.llm("Ada says correct-horse", model=MODEL, system="Ada"))
    assert value == f"Ada has {KEY}"
    [call] = record.calls
    assert call["prompt"].data == "[name] says ***" and call["system"] == "[name]"
    assert call["response"].data == "[name] has ***"


def test_what_a_broken_hook_would_hide_is_withheld(model: Model) -> None:
    config.configure(redact=lambda text: text.no_such)
    model.says = ["x"]
    _, [record] = ran(lambda: kitaru.llm([{"role": "user", "content": "secret"}], model=MODEL))
    assert record.calls[0]["response"].data == WITHHELD
    assert "secret" not in json.dumps(record.calls[0]["prompt"].data)


@pytest.mark.parametrize("name", ["no_such_module:hide", "json:no_such_function"])
def test_a_hook_that_is_not_there_withholds(
    model: Model, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_REDACT", name)
    model.says = ["x"]
    _, [record] = ran(lambda: kitaru.llm("p", model=MODEL))
    assert record.calls[0]["prompt"].data == WITHHELD


def test_tokens_and_cost_are_summed(model: Model) -> None:
    model.says = ["no", '{"name": "Ulm", "people": 1}', "text"]

    @flow
    def asks() -> Any:
        return kitaru.llm("x", model=MODEL, schema=City), kitaru.llm("y", model=MODEL)

    handle = asks.run()
    handle.wait(60)
    view = KitaruClient().executions.get(handle.exec_id)
    assert (view.effort.tokens, view.effort.cost) == (45, 0.75)
    assert view.to_dict()["effort"]["tokens"] == 45


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["text"]}, "prompt"),
        ({"prompt": [{"role": object()}]}, "prompt"),
        ({"tools": ["look"]}, "tools"),
        ({"tools": [TOOL], "schema": City}, "exclude"),
        ({"schema": type("Opaque", (), {})}, "schema"),
        ({"stream": "yes"}, "stream"),
        ({"retries": -1}, "retries"),
        ({"timeout": 0}, "timeout"),
        ({"capture": "some"}, "capture"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kitaru.llm(**{"prompt": "x", **arguments})


@pytest.mark.parametrize("decorator", [flow, checkpoint])
def test_wrong_policy_of_a_decorator(decorator: Any) -> None:
    with pytest.raises(UsageError, match="capture='some'"):
        decorator(name="named", capture="some")(lambda: None)
