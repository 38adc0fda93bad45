"""A support agent of LangChain that is durable: compare it with `support_langchain_plain.py`.

    pip install langchain 'langchain[openai]'
    python examples/agents/support_langchain.py "Please refund order 7."

Each request to the model and each tool call is recorded once. A refund waits for a person: the
process may end meanwhile, and `kitaru executions input` continues the execution.
"""

import sys

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.messages import HumanMessage

from kitaru import flow
from kitaru.adapters.langgraph import KitaruGraphRunner, KitaruMiddleware


def order(number: int) -> str:
    """Return the state of an order."""
    return f"Order {number}: kayak, 900 USD, delivered yesterday."


def refund(number: int, amount: float) -> str:
    """Refund an order."""
    return f"Refunded {amount:.2f} USD for order {number}."


agent = create_agent(
    "openai:gpt-4o",
    [order, refund],
    name="support",
    system_prompt="Help the customer. Look up the order before you refund it.",
    middleware=[HumanInTheLoopMiddleware({"refund": True}), KitaruMiddleware()],
)
runner = KitaruGraphRunner(agent)


@flow
def support(request: str) -> str:
    state = runner.invoke({"messages": [HumanMessage(request)]})
    return str(state["messages"][-1].text)


if __name__ == "__main__":
    print(support.run(" ".join(sys.argv[1:])).wait())
