"""A help desk of the OpenAI Agents SDK that is durable: compare it with `desk_plain.py`.

    pip install openai-agents
    python examples/agents/desk.py "Please refund order 7."

Each request to the model and each tool call is recorded once. A refund waits for a person: the
process may end meanwhile, and `kitaru executions input` continues the execution.
"""

import sys

from agents import Agent, function_tool

from kitaru import flow
from kitaru.adapters.openai_agents import KitaruRunner


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


@flow
async def support(request: str) -> str:
    result = await KitaruRunner.run(desk, request)
    return result.final_output


if __name__ == "__main__":
    print(support.run(" ".join(sys.argv[1:])).wait())
