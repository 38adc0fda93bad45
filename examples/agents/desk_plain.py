"""A help desk of the OpenAI Agents SDK, as people write it: nothing of it survives a crash.

pip install openai-agents
python examples/agents/desk_plain.py "Please refund order 7."
"""

import asyncio
import sys

from agents import Agent, Runner, function_tool


@function_tool
async def order(number: int) -> str:
    """Return the state of an order."""
    return f"Order {number}: kayak, 900 USD, delivered yesterday."


@function_tool(needs_approval=True)
async def refund(number: int, amount: float) -> str:
    """Refund an order."""
    return f"Refunded {amount:.2f} USD for order {number}."


billing = Agent(name="billing", instructions="Look up the order first.", tools=[order, refund])
writer = Agent(name="writer", instructions="Write a friendly answer.")
desk = Agent(
    name="desk",
    instructions="Hand refunds over to billing. Let the writer phrase other answers.",
    tools=[order, writer.as_tool("write", "Phrase an answer.")],
    handoffs=[billing],
)


async def support(request: str) -> str:
    result = await Runner.run(desk, request)
    while result.interruptions:
        state = result.to_state()
        for item in result.interruptions:
            # The process waits, and loses everything if it ends.
            if input(f"{item.name}({item.arguments})? [y/n] ") == "y":
                state.approve(item)
            else:
                state.reject(item)
        result = await Runner.run(desk, state)
    return result.final_output


if __name__ == "__main__":
    print(asyncio.run(support(" ".join(sys.argv[1:]))))
