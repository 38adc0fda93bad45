"""What the kit must know about a harness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from kitaru.testing.adapters.script import Agent, Outcome
    from kitaru.wire.records import WaitRequest

Feature = Literal[
    "sync", "stream", "nested", "guard", "state", "approval", "own_calls", "retries", "cancel",
    "session", "messages", "versions", "usage",
]  # fmt: skip


class Harness(ABC):
    """A harness with its adapter, as the conformance kit uses it.

    Subclass it in a module that a new process can import, without arguments. The methods build an
    agent of the harness from a script, make it durable with the adapter, and run it.

    Attributes:
        packages: the import packages of the harness. The ids of records contain no name of a
            function that is defined there.
        unsupported: features that the harness or the adapter does not have, each with the reason.
            Their tests are skipped with it.
        refused: features that the adapter refuses. Their tests expect an error that names the tool.
        records: a folder with records of other versions of the harness, which this version must
            read. In the environment of each version, make a file with
            `python -m kitaru.testing.adapters MODULE:CLASS FOLDER/VERSION.json`.
        names: parts of ids that equal the name of a function in `packages`, but come from the
            adapter.

    Example:
        class Mine(Harness):
            packages = ("my_harness",)
            unsupported = {"session": "my_harness has no sessions."}

            async def run(self, agent, prompt, *, state=None, session=None):
                mine = my_harness.Agent(model=ScriptedModel(agent), tools=…)
                answer = await durable(mine).run(prompt)
                return Outcome(answer.text, answer.usage.total)
    """

    packages: ClassVar[tuple[str, ...]]
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    refused: ClassVar[frozenset[Feature]] = frozenset()
    records: ClassVar[Path | None] = None
    names: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    async def run(
        self,
        agent: Agent,
        prompt: str,
        *,
        state: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Outcome:
        """Run an agent with the adapter, in the body of an async flow or outside of a flow.

        Args:
            agent: the script. `agent.respond` is the model; see `Agent` and `Tool`.
            prompt: the user's message.
            state: the state that tools of the run may change, if it has one.
            session: the name of a conversation that is kept across runs. `Outcome.history` returns
                its texts.
        """

    def run_sync(self, agent: Agent, prompt: str) -> Outcome:
        """Run an agent in the body of a sync flow. Feature `sync`."""
        raise NotImplementedError

    def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        """Run an agent and yield the pieces of its texts, as the harness does. Feature `stream`."""
        raise NotImplementedError

    def messages(self) -> Iterable[tuple[str, Any, Any]]:
        """Yield a name, a message, and the message that its record returns. Feature `messages`.

        The messages are of every type that a model of the harness can return: text, reasoning,
        images, tool calls with extra fields of a provider, refusals.
        """
        raise NotImplementedError

    def answer(self, request: WaitRequest, yes: bool) -> Any:
        """Return the answer to the wait for an approval: by default, `yes` itself."""
        return yes
