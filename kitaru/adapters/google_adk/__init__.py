"""Google ADK on Kitaru. Needs the extra `google-adk`.

`KitaruADKRunner` runs an agent or app in a flow: each model request and each tool call is recorded
once, and confirmations and long-running tools become waits. `KitaruPlugin` records the calls of an
app whose runner you create yourself. `KitaruSessionService` keeps sessions in a store of Kitaru.
Outside of flows, and inside checkpoints, agents run as usual.
"""

from kitaru.adapters.google_adk.plugin import KitaruPlugin
from kitaru.adapters.google_adk.runner import KitaruADKRunner, RunResult
from kitaru.adapters.google_adk.sessions import KitaruSessionService

__all__ = ["KitaruADKRunner", "KitaruPlugin", "KitaruSessionService", "RunResult"]
