"""Test flows with pytest: an empty store, scripted models and answers, no network.

The fixture `flow_test` of the pytest plugin, which is always loaded, is a `FlowTest`:

    def test_review(flow_test):
        flow_test.script("fast", ["A brief.", "A draft."])
        flow_test.answer("approve", True)
        run = flow_test.run(review_flow, "kayaks")
        assert run.result == "A draft."
        assert [call.id for call in run.invocations] == ["research", "draft", "approve"]
"""

from kitaru.runtime.llm.exchange import Answer
from kitaru.testing.flow_test import FlowTest, StillRunning
from kitaru.testing.network import NetworkRefused
from kitaru.testing.recordings import ReplayedRecording
from kitaru.testing.scripts import UnexpectedModelCall, UnusedReplies

__all__ = [
    "Answer",
    "FlowTest",
    "NetworkRefused",
    "ReplayedRecording",
    "StillRunning",
    "UnexpectedModelCall",
    "UnusedReplies",
]
