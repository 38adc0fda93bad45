"""LangGraph and LangChain on Kitaru. Needs the extra `langgraph`.

In the body of a flow:

- `KitaruMiddleware` records each model request and each tool call of `create_agent`.
- `KitaruGraphRunner` gives the calls in a graph's nodes ids that a resume finds again, and turns
  interrupts into waits.

For conversations that outlive a flow, such as a chat of many requests: `KitaruSaver` and
`KitaruStore` keep threads and long-term memories in a store of Kitaru, next to its executions. In a
flow, the journal restores the state of a graph, so the graph needs no checkpointer there.
"""

from kitaru.adapters.langgraph.models import KitaruMiddleware
from kitaru.adapters.langgraph.runner import KitaruGraphRunner
from kitaru.adapters.langgraph.saver import KitaruSaver
from kitaru.adapters.langgraph.store import KitaruStore

__all__ = ["KitaruGraphRunner", "KitaruMiddleware", "KitaruSaver", "KitaruStore"]
