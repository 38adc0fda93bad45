"""The page and the examples of Google ADK, with scripted models; compiled flows with agents."""

from __future__ import annotations

import difflib
import re
import runpy
from pathlib import Path
from typing import Any

import google.adk
import pytest
from google.adk.models import LLMRegistry

from kitaru.client import KitaruClient
from tests.asynchronous.conftest import Runs, runs
from tests.differential.real import run_dry, run_here

from .adk_programs import Calls, Scripted, shown

__all__ = ["runs"]
ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "google-adk.md"
PRELUDE = """
from typing import Any
from google.adk.agents import LlmAgent
from kitaru import flow
from kitaru.adapters.google_adk import KitaruADKRunner, KitaruPlugin, KitaruSessionService
agent = LlmAgent(name="support", model="scripted-1")
"""


def refunds(turn: int, seen: list[Any]) -> Calls | str:
    if seen and seen[0].name == "refund":
        return f"Done: {shown(seen)}"
    called = "refund" if seen else "order"
    return [(called, {"number": 7, **({"amount": 900} if seen else {})})]


class Registered(Scripted):
    """The scripted model, by name."""

    turns: Any = staticmethod(lambda turn, seen: f"turn {turn}")

    @classmethod
    def supported_models(cls) -> list[str]:
        return ["scripted-1"]


LLMRegistry.register(Registered)


def test_the_code_of_the_page_runs(runs: Runs) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == PAGE.read_text().count("```python") == 3
    page: dict[str, Any] = {}
    exec("\n".join([PRELUDE, *blocks]), page)
    # The second message is the next turn of the session.
    assert [page["chat"].run("ada", "hello").wait() for _ in range(2)] == ["turn 0", "turn 1"]
    assert page["answer"].run("hello").wait() == "turn 0"


def test_the_example_differs_from_a_plain_agent_in_a_few_lines(runs: Runs) -> None:
    plain, durable = (
        ROOT / "examples" / "agents" / name for name in ("support_adk_plain.py", "support_adk.py")
    )
    code = [one.read_text().split('"""', 2)[2].split("if __name__")[0] for one in (plain, durable)]
    lines = difflib.unified_diff(*(text.splitlines() for text in code), n=0)
    added = [line for line in lines if line[0] == "+" and line[1:].strip() and line[:3] != "+++"]
    assert len(added) <= 6, added

    example: Any = runpy.run_path(str(durable))
    example["agent"].model = Scripted(turns=refunds, named=True)
    handle = example["support"].run("Please refund order 7.")
    assert handle.settle(60) == "waiting"
    (wait,) = KitaruClient().executions.get(handle.exec_id).waits
    assert wait.question == "Run refund(number=7, amount=900)?"
    KitaruClient().executions.input(handle.exec_id, True, wait=wait.name)
    assert handle.wait(60) == "Done: Refunded 900.00 USD for order 7."


DESK = """
from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmResponse
from google.adk.tools import FunctionTool
from google.genai import types
from kitaru import checkpoint, flow
from kitaru.adapters.google_adk import KitaruADKRunner

class Scripted(BaseLlm):
    async def generate_content_async(self, llm_request, stream=False):
        turn = sum(content.role == "model" for content in llm_request.contents)
        if turn == 0:
            calls = [types.FunctionCall(name=n, args={"number": 7}) for n in ("order", "refund")]
            parts = [types.Part(function_call=call) for call in calls]
        else:
            found = [part.function_response for part in llm_request.contents[-1].parts]
            parts = [types.Part(text=" ".join(str(one.response["result"]) for one in found))]
        yield LlmResponse(content=types.Content(role="model", parts=parts))

def order(number: int) -> str:
    return f"Order {number}"

def refund(number: int) -> str:
    return f"Refunded {number}"

agent = LlmAgent(
    name="desk",
    model=Scripted(model="scripted-1"),
    tools=[order, FunctionTool(refund, require_confirmation=True)],
)
runner = KitaruADKRunner(agent)

@checkpoint
def store(text: str) -> str:
    return text.upper()

@flow
def main(request: str) -> str:
    return store(runner.run_sync(store(request)).text)
"""


@pytest.mark.parametrize("target", ["airflow", "vertex"])
def test_agents_run_between_the_steps_of_a_pipeline(target: str, tmp_path: Path) -> None:
    path = tmp_path / "desk.py"
    path.write_text(DESK)
    (tmp_path / "requirements.txt").write_text(f"google-adk=={google.adk.__version__}\n")
    local = run_here(path, "main", {"request": "?"}, lambda _: True, tmp_path)
    assert (local.status, local.result) == ("completed", "ORDER 7 REFUNDED 7")
    ids = {one[0] for one in local.invocations}
    assert {"desk.order-model-0", "desk.approve-refund-model-1"} <= ids
    assert run_dry(path, "main", {"request": "?"}, lambda _: True, tmp_path, target) == local
