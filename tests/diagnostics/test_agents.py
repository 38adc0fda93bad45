"""Agents and model clients in flows: what is durable, what is not, and what is only similar."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from kitaru_compiler import check

HEAD = """\
import asyncio
import agents, anthropic, claude_agent_sdk, google.adk.runners, litellm, mcp, openai, pydantic_ai
from crewai import Crew
from google import genai
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_openai import ChatOpenAI
from langgraph.graph import StateGraph
from openai import AsyncOpenAI
from pydantic_ai import Agent
from strands import Agent as Strand

from kitaru import checkpoint, flow
from kitaru.adapters.google_adk import KitaruADKRunner, KitaruPlugin
from kitaru.adapters.langgraph import KitaruGraphRunner, KitaruMiddleware, KitaruSaver
from kitaru.adapters.openai_agents import KitaruRunner

@checkpoint
def draft(x=0): return x
"""


def found(folder: Path, source: str, **files: str) -> list[str]:
    """Return the findings about agents in a file, as `code line text`, after `HEAD`."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    (folder / "flow.py").write_text(HEAD + textwrap.dedent(source))
    first = HEAD.count("\n")
    return [
        f"{d.code} {d.span.line - first} {d.message}"
        for d in check(folder / "flow.py").findings
        if d.code.startswith("KIT7")
    ]


def codes(folder: Path, source: str, **files: str) -> list[str]:
    return [one.split()[0] for one in found(folder, source, **files)]


AGENTS = {
    "pydantic": ("bank = Agent('m')", "bank.run_sync(x).output"),
    "pydantic, parameterised": ("bank = Agent[str, str]('m')", "bank.run_sync(x)"),
    "pydantic, in place": ("", "Agent('m').run_sync(x)"),
    "pydantic, in a loop of asyncio": ("bank = Agent('m')", "asyncio.run(bank.run(x))"),
    "pydantic, streamed": ("bank = Agent('m')", "[p for p in bank.run_stream_sync(x)]"),
    "openai agents": ("bank = agents.Agent(name='b')", "agents.Runner.run_sync(bank, x)"),
    "openai agents, awaited": (
        "bank = agents.Agent(name='b')",
        "asyncio.run(agents.Runner.run(bank, x))",
    ),
    "openai agents, streamed": (
        "bank = agents.Agent(name='b')",
        "agents.Runner.run_streamed(bank, x)",
    ),
    "langchain": ("bank = create_agent('m')", "bank.invoke(x)"),
    "langchain, configured": ("bank = create_agent('m').with_config({})", "bank.invoke(x)"),
    "langgraph": ("bank = StateGraph(dict).compile()", "bank.invoke(x)"),
    "langgraph, streamed": ("b = StateGraph(dict)\nbank = b.compile()", "[*bank.stream(x)]"),
    "langgraph, from a function": (
        "def build():\n    b = StateGraph(dict)\n    b.add_node(draft)\n    return b.compile()",
        "build().invoke(x)",
    ),
    "adk": (
        "bank = google.adk.runners.InMemoryRunner(agent=google.adk.Agent(name='b'))",
        "[e for e in bank.run(user_id='u', session_id='s', new_message=x)]",
    ),
    "claude": ("", "claude_agent_sdk.query(prompt=x)"),
    "crew": ("crew = Crew(agents=[], tasks=[])", "crew.kickoff()"),
    "strands": ("bank = Strand()", "bank(x)"),
}


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_without_an_adapter(name: str, tmp_path: Path) -> None:
    module, call = AGENTS[name]
    assert codes(tmp_path, f"{module}\n@flow\ndef main(x: str):\n    return {call}\n") == ["KIT701"]


CLIENTS = {
    "openai": ("client = openai.OpenAI()", "client.chat.completions.create(model='m')"),
    "openai, responses": ("client = openai.OpenAI()", "client.responses.create(input=x)"),
    "openai, its module": ("", "openai.chat.completions.create(model='m')"),
    "openai, with options": ("c = openai.OpenAI()", "c.with_options(timeout=1).responses.create()"),
    "anthropic": ("client = anthropic.Anthropic()", "client.messages.create(model='m')"),
    "google": ("client = genai.Client()", "client.models.generate_content(model='m')"),
    "litellm": ("", "litellm.completion(model='m')"),
    "langchain": ("model = ChatOpenAI()", "model.invoke(x)"),
    "langchain, by name": ("model = init_chat_model('m')", "model.bind_tools([]).invoke(x)"),
    "langchain, a chain": (
        "from p import prompt\nchain = prompt | ChatOpenAI()",
        "chain.invoke(x)",
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_model_client(name: str, tmp_path: Path) -> None:
    module, call = CLIENTS[name]
    flow = f"{module}\n@flow\ndef main(x: str):\n    return {call}\n"
    assert codes(tmp_path, flow) == ["KIT702"]
    inside = f"{module}\n@checkpoint\ndef ask(x: str):\n    return {call}\n"
    assert codes(tmp_path, f"{inside}\n@flow\ndef main(x: str):\n    return ask(x)\n") == []


NOTHING = {
    "another object": "bank = draft\n@flow\ndef main(x: str):\n    bank.invoke(x)\n",
    "an input": "@flow\ndef main(graph: object):\n    graph.invoke(1)\n",
    "a variable that is bound twice": """\
        bank = Agent("m")
        bank = draft
        @flow
        def main(x: str):
            return bank.run_sync(x)
    """,
    "a hidden name": """\
        bank = Agent("m")
        @flow
        def main(x: str):
            bank = draft(x)
            return bank.run_sync(x)
    """,
    "other methods": """\
        bank = create_agent("m")
        @flow
        def main(x: str):
            return bank.get_graph()
    """,
    "a durable agent": """\
        bank = create_agent("m", name="bank", middleware=[KitaruMiddleware()])
        @flow
        def main(x: str):
            return bank.with_config({}).invoke(x)
    """,
    "a list of middleware": """\
        ALL = [KitaruMiddleware()]
        bank = create_agent("m", name="bank", middleware=ALL)
        @flow
        def main(x: str):
            return bank.invoke(x)
    """,
    "a runner of the OpenAI Agents SDK": """\
        bank = agents.Agent(name="bank")
        @flow
        def main(x: str):
            KitaruRunner.run_streamed(bank, x)
            return KitaruRunner.run_sync(bank, x).final_output
    """,
    "a runner": """\
        b = StateGraph(dict)
        graph = KitaruGraphRunner(b.compile(), name="g")
        @flow
        def main(x: str):
            return graph.invoke(x)
    """,
    "a runner of ADK": """\
        bank = KitaruADKRunner(google.adk.Agent(name="bank"))
        @flow
        async def main(x: str):
            text = (await bank.run(x)).text
            return [text, [e async for e in bank.run_async(x)]]
    """,
    "a plugin of ADK": """\
        app = google.adk.apps.App(
            name="b", root_agent=google.adk.Agent(name="bank"), plugins=[KitaruPlugin()]
        )
        @flow
        async def main(x: str):
            runner = google.adk.runners.InMemoryRunner(app=app)
            return [e async for e in runner.run_async(user_id="u", session_id="s", new_message=x)]
    """,
    "a helper that returns a durable agent": """\
        def build():
            middleware = KitaruMiddleware()
            return create_agent("m", name="bank", middleware=[middleware])
        @flow
        def main(x: str):
            return build().invoke(x)
    """,
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_only_similar(name: str, tmp_path: Path) -> None:
    assert found(tmp_path, NOTHING[name]) == []


def test_an_agent_of_another_module_through_a_helper(tmp_path: Path) -> None:
    bank = "from pydantic_ai import Agent\nagent = Agent('m', name='bank')\n"
    helper = "from bank import agent\ndef ask(x):\n    return agent.run_sync(x)\n"
    source = "import helper\n@flow\ndef main(x: str):\n    return helper.ask(x)\n"
    (line,) = found(tmp_path, source, bank=bank, helper=helper)
    assert line.startswith("KIT701 4 `agent.run_sync` runs an agent of Pydantic AI")
    assert "through `ask`: nothing is recorded" in line


def test_the_fix_names_the_adapter_of_the_openai_agents_sdk(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from agents import Agent, Runner\nfrom kitaru import flow\n"
        "bank = Agent(name='bank')\n"
        "@flow\ndef main(x: str):\n    return Runner.run_sync(bank, x).final_output\n"
    )
    (one,) = [d for d in check(tmp_path / "flow.py").findings if d.code == "KIT701"]
    assert "from kitaru.adapters.openai_agents import KitaruRunner" in one.help
    assert "KitaruRunner.run(agent, …)" in one.help


def test_a_runner_finds_names_and_resources(tmp_path: Path) -> None:
    source = """\
    @checkpoint(gpu=1)
    def render(x): return x
    one = agents.Agent(name="bank", tools=[agents.function_tool(render)])
    two = agents.Agent(name="bank")
    @checkpoint
    def inside(x): return KitaruRunner.run_sync(one, x).final_output
    @flow
    def main(x: str):
        KitaruRunner.run_sync(one, x)
        return inside(KitaruRunner.run_sync(two, x).final_output)
    """
    assert sorted(codes(tmp_path, source)) == ["KIT703", "KIT704", "KIT706"]


def test_two_agents_of_one_name(tmp_path: Path) -> None:
    source = """\
    one = create_agent("m", name="bank", middleware=[KitaruMiddleware()])
    two = create_agent("m", name="bank", middleware=[KitaruMiddleware()])
    @flow
    def main(x: str):
        one.invoke(x)
        one.invoke(x)
        return two.invoke(x)
    """
    assert found(tmp_path, source) == ["KIT704 2 another agent of this flow is called 'bank', too"]


def test_a_checkpointer_and_a_tool_with_resources(tmp_path: Path) -> None:
    source = """\
    @checkpoint(runtime="isolated")
    def render(x): return x
    bank = create_agent(
        "m", [render], name="bank", middleware=[KitaruMiddleware()], checkpointer=KitaruSaver()
    )
    @flow
    def main(x: str):
        return bank.invoke(x)
    """
    assert sorted(code for code in codes(tmp_path, source)) == ["KIT705", "KIT706"]


async_flow = """\
bank = create_agent("m", name="bank", middleware=[KitaruMiddleware()])
clerk = agents.Agent(name="clerk")
client = AsyncOpenAI()

@flow
async def main(x: str):
    async with mcp.ClientSession(x, x) as session:
        await session.call_tool("a", {})
    await client.responses.create(input=x)
    bank.invoke(x)
    await bank.ainvoke(x)
    KitaruRunner.run_sync(clerk, x)
    await KitaruRunner.run(clerk, x)
    return asyncio.run(draft(x))
"""


def test_an_async_flow(tmp_path: Path) -> None:
    assert [line[:9] for line in found(tmp_path, async_flow)] == [
        "KIT702 8 ",
        "KIT702 9 ",
        "KIT708 10",
        "KIT708 12",
        "KIT708 14",
    ]


def test_a_client_of_mcp_is_durable_with_its_adapter(tmp_path: Path) -> None:
    source = """\
    from kitaru.adapters.mcp import KitaruMCPClient
    shop = mcp.Client("http://shop/mcp")
    durable = KitaruMCPClient(shop, name="shop")

    @flow
    async def main(x: str):
        async with durable, shop, KitaruMCPClient(mcp.Client(x), name="own") as own:
            await durable.call_tool("a")
            await own.call_tool("b")
            await shop.call_tool("c")
    """
    (line,) = found(tmp_path, source)
    assert line.startswith("KIT702 10")
    (finding,) = (d for d in check(tmp_path / "flow.py").findings if d.code == "KIT702")
    assert "from kitaru.adapters.mcp import KitaruMCPClient" in finding.help


CIRCLES = {
    "agents that hand over to each other": (
        "bank = agents.Agent(name='bank', handoffs=[desk])\n"
        "desk = agents.Agent(name='desk', handoffs=[bank])",
        "agents.Runner.run_sync(bank, x)",
    ),
    "an agent that hands over to itself": (
        "bank = agents.Agent(name='bank', handoffs=[bank])",
        "agents.Runner.run_sync(bank, x)",
    ),
    "functions that make each other's agents": (
        "def one(): return agents.Agent(name='one', handoffs=[two()])\n"
        "def two(): return agents.Agent(name='two', handoffs=[one()])",
        "agents.Runner.run_sync(one(), x)",
    ),
    "runners of each other": (
        "a = google.adk.runners.Runner(agent=b)\nb = google.adk.runners.Runner(agent=a)",
        "a.run_debug(x)",
    ),
    "lists of tools that contain each other": (
        "tools = more + [draft]\nmore = tools + [draft]\nbank = Agent('m', tools=tools)",
        "bank.run_sync(x)",
    ),
    "lists that double": (
        "\n".join(f"t{n} = t{n + 1} + t{n + 1}" for n in range(40))
        + "\nt40 = [draft]\nbank = Agent('m', tools=t0)",
        "bank.run_sync(x)",
    ),
    "agents that all hand over to all later ones": (
        "\n".join(
            f"a{n} = agents.Agent(handoffs=[{', '.join(f'a{m}' for m in range(n + 1, 40))}])"
            for n in range(40)
        ),
        "agents.Runner.run_sync(a0, x)",
    ),
}


@pytest.mark.parametrize("name", CIRCLES)
def test_circles_of_agents_are_read_once(name: str, tmp_path: Path) -> None:
    made, run = CIRCLES[name]
    assert codes(tmp_path, f"{made}\n@flow\ndef main(x=1):\n    return {run}\n") == ["KIT701"]
