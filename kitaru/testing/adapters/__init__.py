"""A conformance kit for adapters: does a harness survive its process?

An adapter makes the model requests and tool calls of an agent harness durable. The kit proves it:
it runs scripted agents in processes that it kills at each call, resumes them, and compares the
results, records, ids and tokens with those of an undisturbed execution.

Describe the harness in a `Harness`, and name it in a subclass of `AdapterTests`:

    class Mine(Harness):
        packages = ("my_harness",)

        async def run(self, agent, prompt, *, state=None, session=None):
            …

    class TestMine(AdapterTests):
        harness = Mine
"""

from kitaru.testing.adapters.harness import Feature, Harness
from kitaru.testing.adapters.script import Agent, Call, Outcome, Tool, Turn, Unavailable
from kitaru.testing.adapters.suite import AdapterTests

__all__ = [
    "AdapterTests",
    "Agent",
    "Call",
    "Feature",
    "Harness",
    "Outcome",
    "Tool",
    "Turn",
    "Unavailable",
]
