"""A support agent of Pydantic AI that is durable: compare it with `support_plain.py`.

    pip install 'pydantic-ai-slim[openai]'
    python examples/agents/support.py "Please refund order 7."

Each request to the model and each tool call is recorded once. A refund waits for a person: the
process may end meanwhile, and `kitaru executions input` continues the execution.
"""

import sys

from pydantic_ai import Agent

from kitaru import flow
from kitaru.adapters.pydantic_ai import KitaruDurability

agent = Agent(
    "openai:gpt-4o",
    name="support",
    instructions="Help the customer. Look up the order before you refund it.",
    capabilities=[KitaruDurability()],
)


@agent.tool_plain
async def order(number: int) -> str:
    """Return the state of an order."""
    return f"Order {number}: kayak, 900 USD, delivered yesterday."


@agent.tool_plain(requires_approval=True)
async def refund(number: int, amount: float) -> str:
    """Refund an order."""
    return f"Refunded {amount:.2f} USD for order {number}."


@flow
async def support(request: str) -> str:
    result = await agent.run(request)
    return result.output


if __name__ == "__main__":
    print(support.run(" ".join(sys.argv[1:])).wait())
