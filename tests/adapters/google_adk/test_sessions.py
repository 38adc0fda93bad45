"""ADK's sessions on a store of Kitaru, compared with ADK's own service in memory."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

from kitaru import errors, flow
from kitaru.adapters.google_adk import KitaruADKRunner, KitaruSessionService
from kitaru.stores import open_store
from tests.asynchronous.conftest import Runs, runs

from .adk_programs import Scripted

__all__ = ["runs"]
WHERE = {"app_name": "app", "user_id": "ada"}


def event(id: str, text: str = "", **state: Any) -> Event:
    content = types.Content(
        role="model",
        parts=[types.Part(text=text), types.Part(inline_data=types.Blob(data=b"\xff\x00"))],
    )
    actions = EventActions(state_delta={name.replace("__", ":"): v for name, v in state.items()})
    return Event(id=id, author="agent", content=content, actions=actions, timestamp=float(len(id)))


def shown(session: Session | None) -> Any:
    if session is None:
        return None
    return session.model_dump(exclude={"last_update_time"})


def test_it_does_what_the_service_in_memory_does(runs: Runs) -> None:
    """Random operations return the same on both services, and on a new one for each operation."""

    async def compare(seed: int) -> None:
        chance = random.Random(seed)
        url = f"{runs.store}-{seed}"
        reference = InMemorySessionService()
        for number in range(60):
            ours = KitaruSessionService(url)
            where = {
                "app_name": chance.choice(["app", "other app"]),
                "user_id": chance.choice(["ada", "böb/x"]),
                "session_id": chance.choice(["s", "s2"]),
            }
            operation = chance.choice(["create", "get", "append", "append", "list", "delete"])
            config = GetSessionConfig(num_recent_events=chance.choice([None, 0, 2]))
            both: list[Any] = []
            for service in (reference, ours):
                try:
                    if operation == "create":
                        state = {"a": 1, "user:b": [seed], "app:c": None, "temp:d": 2}
                        both.append(shown(await service.create_session(state=state, **where)))
                    elif operation == "get":
                        both.append(shown(await service.get_session(config=config, **where)))
                    elif operation == "append":
                        found = await service.get_session(**where)
                        if found is not None:
                            new = event(f"e{number}", "x", a=number, user__b=number, temp__z=1)
                            await service.append_event(found, new)
                            both.append(shown(found))
                    elif operation == "list":
                        key = {"app_name": where["app_name"], "user_id": where["user_id"]}
                        listed = (await service.list_sessions(**key)).sessions
                        both.append(sorted([shown(one) for one in listed], key=str))
                        both[-1].append(await service.get_user_state(**key))
                    else:
                        await service.delete_session(**where)
                        both.append(None)
                except AlreadyExistsError:
                    both.append("exists")
            assert len(both) in (0, 2) and (not both or both[0] == both[1]), operation

    for seed in range(4):
        asyncio.run(compare(seed))


def test_an_event_is_kept_once_and_a_deleted_session_is_empty_when_created_again(
    runs: Runs,
) -> None:
    async def run() -> None:
        first, second = KitaruSessionService(runs.store), KitaruSessionService(runs.store)
        made = await first.create_session(session_id="s", state={"a": 1}, **WHERE)
        other = await second.get_session(session_id="s", **WHERE)
        assert other is not None
        # Two processes append, and the first one tries again after a crash.
        await first.append_event(made, event("one", a=2))
        await second.append_event(other, event("two"))
        stale = await first.create_session(session_id="t", **WHERE)
        stale.id = "s"
        await first.append_event(stale, event("one", a=2))
        found = await second.get_session(session_id="s", **WHERE)
        assert found is not None and [e.id for e in found.events] == ["one", "two"]
        assert found.events[0].content.parts[1].inline_data.data == b"\xff\x00"
        assert found.state == {"a": 2}
        await first.delete_session(session_id="s", **WHERE)
        with pytest.raises(SessionNotFoundError):
            await second.append_event(found, event("three"))
        again = await second.create_session(session_id="s", **WHERE)
        assert (again.events, again.state) == ([], {})

    asyncio.run(run())


def test_a_secret_is_not_stored(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    import kitaru

    monkeypatch.setenv("TOKEN", "hunter2hunter2")

    @flow
    async def leaks() -> str:
        token = kitaru.secret("TOKEN")
        service = KitaruSessionService(runs.store)
        with pytest.raises(errors.ValueNotEncodable, match="TOKEN"):
            await service.create_session(state={"token": token}, **WHERE)
        return "kept out"

    assert leaks.run().wait() == "kept out"


def test_a_damaged_object_is_an_error_that_names_it(runs: Runs) -> None:
    service = KitaruSessionService(runs.store)
    asyncio.run(service.create_session(session_id="s", **WHERE))
    store = open_store(runs.store)
    (key,) = [key for key in store.list("") if "/session/" in key]
    store.delete(key)
    store.create(key, b"{")
    with pytest.raises(errors.RecordCorrupt, match="session"):
        asyncio.run(service.get_session(session_id="s", **WHERE))


def test_a_conversation_continues_in_the_next_execution(runs: Runs) -> None:
    sessions = KitaruSessionService(runs.store)
    agent = LlmAgent(
        name="desk", model=Scripted(turns=lambda turn, seen: f"turn {turn}"), output_key="last"
    )
    runner = KitaruADKRunner(agent, session_service=sessions)

    @flow
    async def chat(message: str) -> list[str]:
        result = await runner.run(message, user_id="ada", session_id="s", state={"mood": message})
        return [result.text, result.session.state["last"], result.session.state["mood"]]

    assert chat.run("a").wait() == ["turn 0", "turn 0", "a"]
    assert chat.run("b").wait() == ["turn 1", "turn 1", "b"]
    kept = asyncio.run(sessions.get_session(app_name="desk", user_id="ada", session_id="s"))
    assert kept is not None and len(kept.events) == 4
    assert len({one.id for one in kept.events}) == 4
    assert kept.state == {"mood": "b", "last": "turn 1"}
