"""Run agents of ADK in the body of a flow: sessions, and questions to people as waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from google.adk.agents import BaseAgent, RunConfig
from google.adk.apps import App
from google.adk.artifacts import BaseArtifactService, InMemoryArtifactService
from google.adk.events import Event
from google.adk.memory import BaseMemoryService, InMemoryMemoryService
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.genai import types
from pydantic import BaseModel

from kitaru import harness
from kitaru.adapters.google_adk.plugin import KitaruPlugin
from kitaru.adapters.google_adk.questions import Questions
from kitaru.adapters.google_adk.runs import VERSION, Run


class RunResult(BaseModel):
    """What a run of an agent returned.

    Attributes:
        text: text of the last final response, empty if it has none.
        events: all events, in order.
        session: the session after the run, with its state.
    """

    text: str
    events: list[Event]
    session: Session


class KitaruADKRunner:
    """Runs an agent or app of ADK in the body of a flow, and makes it durable.

    Each model request and each tool call is recorded once. A call that needs a confirmation, and a
    call of a long-running tool, suspends the execution until somebody answers. Outside of flows,
    and in checkpoints, the agent runs as with ADK's own runner.

    In a flow, each run works on a session in memory, which a resume creates again from the records.
    A session of `session_service` is read when the run begins, and its new events are saved when
    the run has ended: each once, also if the process dies while it saves.

    Args:
        agent: a root agent, or an app with plugins, resumability and other settings.
        flow_tools: names of tools that make durable calls of their own; see `KitaruPlugin`.
        session_service: where sessions are kept across executions. Default: nowhere.
        artifact_service: where artifacts are kept. Default: in memory. In a flow, artifacts that
            tools save in memory are part of their records.
        memory_service: the long-term memory of the agents. Default: in memory.

    Example:
        runner = KitaruADKRunner(agent)

        @flow
        async def answer(question: str) -> str:
            return (await runner.run(question)).text
    """

    def __init__(
        self,
        agent: BaseAgent | App,
        *,
        flow_tools: Iterable[str] = (),
        session_service: BaseSessionService | None = None,
        artifact_service: BaseArtifactService | None = None,
        memory_service: BaseMemoryService | None = None,
    ) -> None:
        app = agent if isinstance(agent, App) else App(name=agent.name, root_agent=agent)
        plugin = KitaruPlugin(flow_tools=flow_tools)
        self.flow_tools = plugin.flow_tools
        self.app = app.model_copy(update={"plugins": [*app.plugins, plugin]})
        self.session_service = session_service
        self.artifact_service = artifact_service
        self.memory_service = memory_service or InMemoryMemoryService()
        # Outside of flows, they live as long as the runner.
        self._own_sessions = session_service or InMemorySessionService()
        self._own_artifacts = artifact_service or InMemoryArtifactService()

    def run_sync(
        self,
        message: str | types.Content,
        *,
        user_id: str = "user",
        session_id: str | None = None,
        state: dict[str, Any] | None = None,
        run_config: RunConfig | None = None,
    ) -> RunResult:
        """Do what `run` does in code that blocks, such as a flow that is not async."""
        return asyncio.run(
            self.run(
                message, user_id=user_id, session_id=session_id, state=state, run_config=run_config
            )
        )

    async def run(
        self,
        message: str | types.Content,
        *,
        user_id: str = "user",
        session_id: str | None = None,
        state: dict[str, Any] | None = None,
        run_config: RunConfig | None = None,
    ) -> RunResult:
        """Run the agent until its last response, and return the result.

        Args:
            message: text or content from the user.
            user_id: the user of the session.
            session_id: the session to continue, created if it does not exist. Default: a new one.
            state: the state of a new session, or changes of an existing one.
            run_config: settings of the run, such as `max_llm_calls`.

        Raises:
            UsageError: a tool cannot be recorded as one call; the error names it.
            Exception: what the agent raised.
        """
        run = self._begin(user_id, session_id, state, run_config)
        async with aclosing(run.events(_content(message))) as stream:
            events = [event async for event in stream]
        final = [event for event in events if event.is_final_response() and event.content]
        text = _text(final[-1].content) if final else ""
        return RunResult(text=text, events=events, session=await run.session())

    async def run_async(
        self,
        message: str | types.Content,
        *,
        user_id: str = "user",
        session_id: str | None = None,
        state: dict[str, Any] | None = None,
        run_config: RunConfig | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a run, as ADK's runner does. The arguments are those of `run`.

        In a flow, a response is one event, live and in a replay. `kitaru.harness.listen` receives
        the pieces of a response as they arrive. A session is saved after the last event.
        """
        run = self._begin(user_id, session_id, state, run_config)
        async with aclosing(run.events(_content(message))) as stream:
            async for event in stream:
                yield event

    def _begin(
        self,
        user_id: str,
        session_id: str | None,
        state: dict[str, Any] | None,
        run_config: RunConfig | None,
    ) -> _PlainRun:
        given = (self.app, user_id, state, run_config, self.memory_service)
        execution = harness.current_execution()
        if execution is None:
            return _PlainRun(
                *given, session_id or str(uuid4()), self._own_sessions, self._own_artifacts
            )
        run = Run(_name(self.app), self.flow_tools)
        id = session_id or f"{execution.exec_id}-{run.scope.path}"
        run.register(id)
        artifacts = self.artifact_service or InMemoryArtifactService()
        kept = self.session_service if session_id is not None else None
        return _FlowRun(*given, id, InMemorySessionService(), artifacts, run=run, kept=kept)


class _PlainRun:
    """A run of ADK's own runner."""

    def __init__(
        self,
        app: App,
        user_id: str,
        state: dict[str, Any] | None,
        run_config: RunConfig | None,
        memory: BaseMemoryService,
        session_id: str,
        sessions: BaseSessionService,
        artifacts: BaseArtifactService,
    ) -> None:
        self._runner = Runner(
            app=app, session_service=sessions, artifact_service=artifacts, memory_service=memory
        )
        self._where = {"user_id": user_id, "session_id": session_id}
        self._key = {"app_name": self._runner.app_name, **self._where}
        self._sessions = sessions
        self._state, self._config = state, run_config
        self._initial_state = state

    async def session(self) -> Session | None:
        """Return the session as it is now; None if it does not exist."""
        return await self._sessions.get_session(**self._key)

    async def events(self, message: types.Content) -> AsyncGenerator[Event, None]:
        """Yield the events of the run."""
        await self._open()
        async with aclosing(self._started(message)) as stream:
            async for event in stream:
                yield event

    async def _open(self) -> None:
        if await self.session() is None:
            await self._sessions.create_session(state=self._state, **self._key)
            self._state = None

    def _started(self, message: types.Content, **more: Any) -> AsyncGenerator[Event, None]:
        state, self._state = self._state, None
        events: AsyncGenerator[Event, None] = self._runner.run_async(
            new_message=message, state_delta=state, run_config=self._config, **self._where, **more
        )
        return events


class _FlowRun(_PlainRun):
    """A run in the body of a flow: a session in memory, and questions to people as waits."""

    def __init__(self, *given: Any, run: Run, kept: BaseSessionService | None) -> None:
        super().__init__(*given)
        self._run, self._kept = run, kept

    async def events(self, message: types.Content) -> AsyncGenerator[Event, None]:
        """Yield the events of the run; continue it when the questions are answered."""
        known = await self._load()
        await self._open()
        messages = [message]
        more: dict[str, Any] = {}
        while messages:
            *others, last = messages
            for other in others:
                await self._append(other, **more)
            questions = Questions(self._run)
            given = more if self._is_resumable else {}
            async with aclosing(self._started(last, **given)) as stream:
                while True:
                    # The flow's own calls between two events are not in the agent's scope.
                    with self._run.scope:
                        event = await anext(stream, None)
                    if event is None:
                        break
                    questions.note(event)
                    more = {"invocation_id": event.invocation_id}
                    yield event
            messages = await questions.answers()
        await self._save(known)

    async def _append(self, message: types.Content, invocation_id: str) -> None:
        """Append a message of the user that the agent does not answer at once."""
        session = await self.session()
        event = Event(author="user", content=message, invocation_id=invocation_id)
        await self._sessions.append_event(session, event)

    @property
    def _is_resumable(self) -> bool:
        config = self._runner.resumability_config
        return config is not None and config.is_resumable

    async def _load(self) -> int:
        """Copy the session that is kept into memory, and return the number of its events."""
        if (kept := self._kept) is None:
            return 0

        async def read() -> Any:
            found = await kept.get_session(**self._key)
            return None if found is None else found.model_dump(mode="json", by_alias=True)

        with self._run.scope:
            recorded = await harness.step("load", read, version=VERSION)
        if recorded is None:
            return 0
        session = Session.model_validate_json(json.dumps(recorded))
        copy = await self._sessions.create_session(state=session.state, **self._key)
        for event in session.events:
            await self._sessions.append_event(copy, event)
        return len(session.events)

    async def _save(self, known: int) -> None:
        """Append the new events to the session that is kept, unless they are there already."""
        if (kept := self._kept) is None:
            return
        session = await self.session()
        execution = harness.current_execution()
        assert session is not None and execution is not None

        async def write() -> int:
            stored = await kept.get_session(**self._key)
            if stored is None:
                stored = await kept.create_session(state=self._initial_state, **self._key)
            ids = {event.id for event in stored.events}
            step = harness.current_step()
            for number, event in enumerate(session.events[known:]):
                # A process that continues after a crash creates the events again, with other ids.
                named = event.model_copy(update={"id": f"{execution.exec_id}-{step}-{number}"})
                if named.id not in ids:
                    await kept.append_event(stored, named)
            return len(session.events)

        with self._run.scope:
            await harness.step("save", write, version=VERSION)


def _name(app: App) -> str:
    return str(app.root_agent.name)


def _content(message: str | types.Content) -> types.Content:
    if isinstance(message, str):
        return types.Content(role="user", parts=[types.Part(text=message)])
    return message


def _text(content: types.Content) -> str:
    return "".join(part.text for part in content.parts or () if part.text and not part.thought)
