"""The OpenAI Agents SDK on Kitaru. Needs the extra `openai-agents`.

`KitaruRunner` runs an agent in a flow. It records each model request and each call of a function
tool once, and waits for approvals. `KitaruSession` keeps a conversation in `kitaru.memory`.
Outside of flows, and inside checkpoints, an agent runs as with the SDK's own `Runner`.
"""

from kitaru.adapters.openai_agents.copies import flow_tool
from kitaru.adapters.openai_agents.runner import KitaruRunner
from kitaru.adapters.openai_agents.session import KitaruSession

__all__ = ["KitaruRunner", "KitaruSession", "flow_tool"]
