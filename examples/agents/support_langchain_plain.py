"""A support agent of LangChain, as people write it: nothing of it survives a crash.

pip install langchain 'langchain[openai]'
python examples/agents/support_langchain_plain.py "Please refund order 7."
"""

import sys

from langchain.agents import create_agent
from langchain.messages import HumanMessage


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
)


def support(request: str) -> str:
    state = agent.invoke({"messages": [HumanMessage(request)]})
    return str(state["messages"][-1].text)


if __name__ == "__main__":
    print(support(" ".join(sys.argv[1:])))
