"""A support agent of Google ADK, as people write it: nothing of it survives a crash.

pip install google-adk
python examples/agents/support_adk_plain.py "Please refund order 7."
"""

import sys

from google.adk.agents import LlmAgent
from google.adk.runners import InMemoryRunner
from google.adk.tools import FunctionTool


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
    tools=[order, FunctionTool(refund)],
)
runner = InMemoryRunner(agent)


async def support(request: str) -> str:
    events = await runner.run_debug(request, quiet=True)
    return str(events[-1].content.parts[0].text)


if __name__ == "__main__":
    import asyncio

    print(asyncio.run(support(" ".join(sys.argv[1:]))))
