"""A support agent of Google ADK that is durable: compare it with `support_adk_plain.py`.

    pip install google-adk
    python examples/agents/support_adk.py "Please refund order 7."

Each request to the model and each tool call is recorded once. A refund waits for a person: the
process may end meanwhile, and `kitaru executions input` continues the execution.
"""

import sys

from google.adk.agents import LlmAgent
from google.adk.tools import FunctionTool

from kitaru import flow
from kitaru.adapters.google_adk import KitaruADKRunner


async def order(number: int) -> str:
    """Return the state of an order."""
    return f"Order {number}: kayak, 900 USD, delivered yesterday."


async def refund(number: int, amount: float) -> str:
    """Refund an order."""
    return f"Refunded {amount:.2f} USD for order {number}."


agent = LlmAgent(
    name="support",
    model="gemini-2.5-flash",
    instruction="Help the customer. Look up the order before you refund it.",
    tools=[order, FunctionTool(refund, require_confirmation=True)],
)
runner = KitaruADKRunner(agent)


@flow
async def support(request: str) -> str:
    return (await runner.run(request)).text


if __name__ == "__main__":
    print(support.run(" ".join(sys.argv[1:])).wait())
