"""An agent of Pydantic AI with the capability of Kitaru."""

from __future__ import annotations

from typing import Any

from pydantic_ai.agent import AbstractAgent, WrapperAgent
from pydantic_ai.output import OutputDataT
from pydantic_ai.tools import AgentDepsT

from kitaru.adapters.pydantic_ai.durability import KitaruDurability


class KitaruAgent(WrapperAgent[AgentDepsT, OutputDataT]):
    """An agent that records its work in flows: the agent passed, with `KitaruDurability` added.

    It has the methods of an agent. The agent that is passed does not change.

    Args:
        agent: an agent with a name.
        durability: the capability to add. Default: `KitaruDurability()`.

    Example:
        durable = KitaruAgent(agent)

        @flow
        def answer(question: str) -> str:
            return durable.run_sync(question).output
    """

    def __init__(
        self,
        agent: AbstractAgent[AgentDepsT, OutputDataT],
        durability: KitaruDurability[AgentDepsT] | None = None,
    ) -> None:
        super().__init__(agent)
        self.durability = durability or KitaruDurability()

    def iter(self, *args: Any, **options: Any) -> Any:
        """Iterate over the steps of a run; all other methods run the agent with this one."""
        added = [*(options.pop("capabilities", None) or ()), self.durability]
        return super().iter(*args, capabilities=added, **options)
