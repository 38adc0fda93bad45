"""The Claude Agent SDK on Kitaru. Needs the extra `claude-agent-sdk`.

`KitaruClaudeRunner` runs Claude in a flow: each turn and each call of a tool is a record, and a
tool that needs a person is a wait. `KitaruSessionStore` keeps transcripts in a store of Kitaru.
"""

from kitaru.adapters.claude_agent_sdk.runner import KitaruClaudeRunner
from kitaru.adapters.claude_agent_sdk.sessions import KitaruSessionStore
from kitaru.adapters.claude_agent_sdk.tools import flow_tool

__all__ = ["KitaruClaudeRunner", "KitaruSessionStore", "flow_tool"]
