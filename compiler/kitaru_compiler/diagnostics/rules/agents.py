"""Rules about agents of other harnesses, and about clients of models."""

from kitaru_compiler.diagnostics.model import Fix, Rule

AGENT_NOT_DURABLE = Rule(
    code="KIT701",
    name="agent-not-durable",
    severity="warning",
    what="The flow's body runs an agent, and no adapter records what the agent does.",
    why=(
        "A checkpoint records its result. A call in the flow's body records nothing: after a "
        "crash, the resumed flow runs the agent again from its start. Every model request is "
        "paid again, and every tool has its effects again."
    ),
    bad="""\
graph = langchain.agents.create_agent("openai:gpt-5", [search], name="clerk")

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    good="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    fix=Fix(
        "Adds the adapter's middleware to an agent of LangChain, and lets `KitaruRunner` run an "
        "agent of the OpenAI Agents SDK.",
        is_safe=True,
    ),
)

MODEL_CALL_NOT_DURABLE = Rule(
    code="KIT702",
    name="model-call-not-durable",
    severity="warning",
    what="The flow's body calls a model through a client, or a tool through MCP.",
    why=(
        "The response is not recorded. After a crash, the resumed flow sends the request again "
        "and pays for it again. The response is another one, so that the calls after it may be "
        "other calls than the recorded ones."
    ),
    bad="""\
client = openai.OpenAI()

@flow
def main(topic: str) -> str:
    answer = client.responses.create(model="gpt-5", input=topic)
    return draft(answer.output_text)
""",
    good="""\
@flow
def main(topic: str) -> str:
    return draft(kitaru.llm(topic, model="gpt-5"))
""",
)

AGENT_IN_CHECKPOINT = Rule(
    code="KIT703",
    name="agent-in-checkpoint",
    severity="note",
    what="A checkpoint runs an agent that an adapter would record call by call.",
    why=(
        "A checkpoint is one record. If the process ends in the middle, the checkpoint runs the "
        "agent again from its start. In the flow's body, each model request and each tool call "
        "is a record of its own, and none of them runs again."
    ),
    bad="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@checkpoint
def ask(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    good="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
)

AGENT_NAME = Rule(
    code="KIT704",
    name="agent-name",
    severity="warning",
    what="A durable agent has no name, or two agents that a flow runs have the same name.",
    why=(
        "The ids of an agent's records begin with its name. Records of agents with one name "
        "differ only by a number, and a new call between them changes the numbers of all later "
        "ones: an execution that was started before the change cannot be resumed."
    ),
    bad="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], middleware=[langgraph.KitaruMiddleware()]
)

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    good="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    fix=Fix("Names the agent after its variable.", is_safe=True),
)

TWO_JOURNALS = Rule(
    code="KIT705",
    name="two-journals",
    severity="warning",
    what="The flow runs a graph whose checkpointer is a `KitaruSaver`.",
    why=(
        "The saver is outside of the execution's journal. A resumed flow continues from the "
        "graph's own, newer state, makes other calls than it recorded, and stops with "
        "`Diverged`. In a flow, the journal restores the state of the graph."
    ),
    bad="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()],
    checkpointer=langgraph.KitaruSaver(),
)

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    good="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
)

TOOL_WITHOUT_OWN_STEP = Rule(
    code="KIT706",
    name="tool-without-own-step",
    severity="note",
    what="A tool of an agent is a checkpoint with an image, a GPU or other resources of its own.",
    why=(
        "The agent calls its tools in its own process. The tool's result is recorded, but the "
        "tool gets no container: the agent's step gets its resources for as long as the agent "
        "runs. A checkpoint that the flow itself calls gets a container of its own."
    ),
    bad="""\
@checkpoint(gpu=1)
def render(text: str) -> str:
    return text

graph = langchain.agents.create_agent(
    "openai:gpt-5", [render], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    good="""\
@checkpoint(gpu=1)
def render(text: str) -> str:
    return text

graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
def main(topic: str) -> str:
    return render(graph.invoke({"messages": [("user", topic)]})["messages"][-1].content)
""",
)

TOOLSET_WITHOUT_ID = Rule(
    code="KIT707",
    name="toolset-without-id",
    severity="warning",
    what="A durable agent has an MCP toolset without an `id`.",
    why=(
        "The ids of the toolset's records begin with its id. Without one, Pydantic AI refuses "
        "to run the agent durably."
    ),
    bad="""\
shop = pydantic_ai.mcp.MCPToolset("http://shop/mcp")
own = durable.KitaruDurability()
bank = pydantic_ai.Agent("openai:gpt-5", name="bank", toolsets=[shop], capabilities=[own])

@flow
def main(topic: str) -> str:
    return bank.run_sync(topic).output
""",
    good="""\
shop = pydantic_ai.mcp.MCPToolset("http://shop/mcp", id="shop")
own = durable.KitaruDurability()
bank = pydantic_ai.Agent("openai:gpt-5", name="bank", toolsets=[shop], capabilities=[own])

@flow
def main(topic: str) -> str:
    return bank.run_sync(topic).output
""",
    fix=Fix("Sets the id to the name of the variable.", is_safe=True),
)

LOOP_IN_LOOP = Rule(
    code="KIT708",
    name="loop-in-loop",
    severity="warning",
    what="An async flow calls a blocking run of an agent, or `asyncio.run`.",
    why=(
        "An async flow runs in an event loop. `asyncio.run` fails there, and a blocking run "
        "stops all other tasks of the flow until it ends."
    ),
    bad="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
async def main(topic: str) -> str:
    return graph.invoke({"messages": [("user", topic)]})["messages"][-1].content
""",
    good="""\
graph = langchain.agents.create_agent(
    "openai:gpt-5", [search], name="clerk", middleware=[langgraph.KitaruMiddleware()]
)

@flow
async def main(topic: str) -> str:
    state = await graph.ainvoke({"messages": [("user", topic)]})
    return state["messages"][-1].content
""",
    fix=Fix("Awaits the run that returns a coroutine.", is_safe=True),
)
