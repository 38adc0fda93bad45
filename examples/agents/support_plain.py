"""A support agent of Pydantic AI, as people write it: nothing of it survives a crash.

pip install 'pydantic-ai-slim[openai]'
python examples/agents/support_plain.py "Please refund order 7."
"""

import sys

from pydantic_ai import Agent

agent = Agent(
    "openai:gpt-4o",
    name="support",
    instructions="Help the customer. Look up the order before you refund it.",
)


@agent.tool_plain
async def order(number: int) -> str:
    """Return the state of an order."""
    return f"Order {number}: kayak, 900 USD, delivered yesterday."


@agent.tool_plain
async def refund(number: int, amount: float) -> str:
    """Refund an order."""
    return f"Refunded {amount:.2f} USD for order {number}."


async def support(request: str) -> str:
    result = await agent.run(request)
    return result.output


if __name__ == "__main__":
    import asyncio

    print(asyncio.run(support(" ".join(sys.argv[1:]))))
