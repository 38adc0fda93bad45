"""The agent harnesses and model clients that the compiler knows: how each is built and called.

A harness runs a loop of model requests and tool calls. Its calls in a flow's body are recorded only
if an adapter of `kitaru.adapters` makes them durable.
"""

from __future__ import annotations

from typing import Literal

from kitaru.wire.structs import Struct

Kind = Literal["agent", "graph", "builder", "runner", "session", "client", "model", "toolset"]
"""What an object is: `builder` compiles to a graph, `session` is a connection to an MCP server."""


class Harness(Struct):
    """A harness or a client library.

    Attributes:
        title: its name for people.
        adapter: the module of its adapter, empty without one.
        fix: the lines that make it durable with the adapter.
        roots: the top-level packages that a program imports it by.
    """

    title: str
    roots: tuple[str, ...]
    adapter: str = ""
    fix: tuple[str, ...] = ()


class Maker(Struct):
    """A class or function that creates an object of a harness.

    `model`, `tools` and `parts` are the arguments that name the model, the tools, and the agents
    that it hands over to. The position of the model is `model_at`, -1 if it is a keyword only.
    """

    harness: Harness
    kind: Kind
    name: str = "name"
    model: str = "model"
    model_at: int = -1
    tools: tuple[str, ...] = ("tools",)
    tools_at: int = -1
    parts: tuple[str, ...] = ()
    parts_at: int = -1


PYDANTIC = Harness(
    "Pydantic AI",
    ("pydantic_ai",),
    "kitaru.adapters.pydantic_ai",
    (
        "from kitaru.adapters.pydantic_ai import KitaruDurability",
        "Agent(…, capabilities=[KitaruDurability()])",
    ),
)
OPENAI_AGENTS = Harness(
    "OpenAI Agents SDK",
    ("agents",),
    "kitaru.adapters.openai_agents",
    (
        "from kitaru.adapters.openai_agents import KitaruRunner",
        "KitaruRunner.run(agent, …)",
    ),
)
LANGGRAPH = Harness(
    "LangGraph",
    ("langgraph", "langchain"),
    "kitaru.adapters.langgraph",
    (
        "from kitaru.adapters.langgraph import KitaruGraphRunner",
        "graph = KitaruGraphRunner(graph)",
    ),
)
LANGCHAIN = Harness(
    "LangChain",
    ("langchain",),
    "kitaru.adapters.langgraph",
    (
        "from kitaru.adapters.langgraph import KitaruMiddleware",
        "create_agent(…, middleware=[KitaruMiddleware()])",
    ),
)
CLAUDE = Harness(
    "Claude Agent SDK",
    ("claude_agent_sdk",),
    "kitaru.adapters.claude_agent_sdk",
    (
        "from kitaru.adapters.claude_agent_sdk import KitaruClaudeRunner",
        'await KitaruClaudeRunner(options, name="…").run(prompt)',
    ),
)
ADK = Harness(
    "Google ADK",
    ("google",),
    "kitaru.adapters.google_adk",
    (
        "from kitaru.adapters.google_adk import KitaruADKRunner",
        "runner = KitaruADKRunner(agent)",
    ),
)
MCP = Harness(
    "MCP",
    ("mcp",),
    "kitaru.adapters.mcp",
    (
        "from kitaru.adapters.mcp import KitaruMCPClient",
        'KitaruMCPClient(Client(…), name="…")',
    ),
)
FASTMCP = Harness("FastMCP", ("fastmcp",))
CREWAI = Harness("CrewAI", ("crewai",))
SMOLAGENTS = Harness("smolagents", ("smolagents",))
STRANDS = Harness("Strands Agents", ("strands",))

MAKERS: dict[str, Maker] = {
    "pydantic_ai.Agent": Maker(PYDANTIC, "agent", model_at=0, tools=("tools", "toolsets")),
    "agents.Agent": Maker(OPENAI_AGENTS, "agent", parts=("handoffs",)),
    "langchain.agents.create_agent": Maker(LANGCHAIN, "graph", model_at=0, tools_at=1),
    "langgraph.prebuilt.create_react_agent": Maker(LANGGRAPH, "graph", model_at=0, tools_at=1),
    "langgraph.graph.StateGraph": Maker(LANGGRAPH, "builder"),
    "langgraph.graph.MessageGraph": Maker(LANGGRAPH, "builder"),
    "google.adk.Agent": Maker(ADK, "agent", parts=("sub_agents",)),
    "google.adk.agents.Agent": Maker(ADK, "agent", parts=("sub_agents",)),
    "google.adk.agents.LlmAgent": Maker(ADK, "agent", parts=("sub_agents",)),
    "google.adk.agents.SequentialAgent": Maker(ADK, "agent", parts=("sub_agents",)),
    "google.adk.agents.ParallelAgent": Maker(ADK, "agent", parts=("sub_agents",)),
    "google.adk.agents.LoopAgent": Maker(ADK, "agent", parts=("sub_agents",)),
    "google.adk.apps.App": Maker(ADK, "agent", parts=("root_agent",)),
    "google.adk.Runner": Maker(ADK, "runner", parts=("agent", "app")),
    "google.adk.runners.Runner": Maker(ADK, "runner", parts=("agent", "app")),
    "google.adk.runners.InMemoryRunner": Maker(
        ADK, "runner", parts=("agent", "app"), parts_at=0
    ),
    "claude_agent_sdk.ClaudeSDKClient": Maker(CLAUDE, "runner"),
    "mcp.ClientSession": Maker(MCP, "session"),
    "mcp.Client": Maker(MCP, "session"),
    "fastmcp.Client": Maker(FASTMCP, "session"),
    "crewai.Crew": Maker(CREWAI, "agent", parts=("agents",)),
    "smolagents.CodeAgent": Maker(SMOLAGENTS, "agent", tools_at=0, model_at=1),
    "smolagents.ToolCallingAgent": Maker(SMOLAGENTS, "agent", tools_at=0, model_at=1),
    "strands.Agent": Maker(STRANDS, "agent"),
    **{
        f"pydantic_ai.mcp.{name}": Maker(PYDANTIC, "toolset", name="id", tools=())
        for name in ("MCPServerStdio", "MCPServerSSE", "MCPServerStreamableHTTP", "MCPToolset")
    },
    "pydantic_ai.toolsets.fastmcp.FastMCPToolset": Maker(
        PYDANTIC, "toolset", name="id", tools=()
    ),
}  # fmt: skip
"""The constructors, by absolute name."""


def _client(title: str, root: str, *names: str) -> dict[str, Maker]:
    maker = Maker(Harness(title, (root.partition(".")[0],)), "client")
    return {f"{root}.{name}": maker for name in names}


MAKERS |= {
    **_client("OpenAI", "openai", "OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI"),
    **_client("Anthropic", "anthropic", "Anthropic", "AsyncAnthropic"),
    **_client("Anthropic", "anthropic", "AnthropicBedrock", "AnthropicVertex"),
    **_client("Google Gen AI", "google.genai", "Client"),
    **_client("Groq", "groq", "Groq", "AsyncGroq"),
    **_client("Together", "together", "Together", "AsyncTogether"),
    **_client("Mistral", "mistralai", "Mistral"),
    **_client("Cohere", "cohere", "Client", "ClientV2", "AsyncClient", "AsyncClientV2"),
    **_client("Hugging Face", "huggingface_hub", "InferenceClient", "AsyncInferenceClient"),
    **_client("Ollama", "ollama", "Client", "AsyncClient"),
}

RUNS: dict[Kind, frozenset[str]] = {
    "agent": frozenset({"run", "run_sync", "kickoff", "kickoff_async", "kickoff_for_each"}),
    "graph": frozenset({"invoke", "ainvoke", "batch", "abatch"}),
    "runner": frozenset({"run_debug"}),
    "session": frozenset({"call_tool", "read_resource", "get_prompt", "complete"}),
    "model": frozenset({"invoke", "ainvoke", "batch", "abatch", "stream", "astream"}),
    "client": frozenset(
        {
            *(f"{api}.create" for api in ("chat.completions", "responses", "messages")),
            *(f"{api}.create" for api in ("embeddings", "moderations", "beta.chat.completions")),
            *(f"{api}.parse" for api in ("chat.completions", "responses", "messages")),
            *(f"{api}.parse" for api in ("beta.chat.completions",)),
            *(f"{api}.stream" for api in ("chat.completions", "responses", "messages", "chat")),
            *(f"images.{name}" for name in ("generate", "edit", "create_variation")),
            *(f"audio.{name}.create" for name in ("speech", "transcriptions", "translations")),
            *(f"models.{name}" for name in ("generate_content", "generate_content_stream")),
            *("aio.models.generate_content", "models.embed_content", "models.generate_images"),
            *("chat.complete", "chat.complete_async", "chat", "chat_stream", "generate", "embed"),
            *("chat_completion", "text_generation", "feature_extraction"),
        }
    ),
}
"""The methods that make requests, and return when they are done."""

LAZY: dict[Kind, frozenset[str]] = {
    "agent": frozenset({"run_stream", "run_stream_sync", "run_stream_events", "iter", "run_async"}),
    "graph": frozenset({"stream", "astream", "astream_events", "astream_log", "transform"}),
    "runner": frozenset({"run", "run_async", "query", "receive_response", "receive_messages"}),
}
"""The methods whose result makes requests while it is read."""

COROUTINES = frozenset({"ainvoke", "abatch", "kickoff_async", "run_debug"})
"""The runs that return a coroutine; so does `run` of the harnesses in `ASYNC_RUN`."""

ASYNC_RUN = frozenset({PYDANTIC.title, OPENAI_AGENTS.title})
"""The harnesses whose `run` returns a coroutine. ADK's runner yields; that of Kitaru does not."""

BLOCKING = frozenset({"run_sync"})
"""The runs that start an event loop of their own, and fail or block in a running one."""

_LITELLM = Harness("litellm", ("litellm",))
_OLLAMA = Harness("Ollama", ("ollama",))
_OPENAI = Harness("OpenAI", ("openai",))
FUNCTIONS: dict[str, tuple[Harness, bool]] = {
    **{
        f"{runner}.{method}": (OPENAI_AGENTS, method == "run_streamed")
        for runner in ("agents.Runner", "kitaru.adapters.openai_agents.KitaruRunner")
        for method in ("run", "run_sync", "run_streamed")
    },
    "claude_agent_sdk.query": (CLAUDE, True),
    **{
        f"litellm.{name}": (_LITELLM, False)
        for name in (
            *("completion", "acompletion", "embedding", "aembedding", "responses", "aresponses"),
            *("text_completion", "image_generation", "completion_with_retries"),
        )
    },
    **{f"ollama.{name}": (_OLLAMA, False) for name in ("chat", "generate", "embed")},
    **{f"openai.{name}": (_OPENAI, False) for name in sorted(RUNS["client"])},
}
"""Functions that make requests, each with whether they do so only while the result is read.

Those of an adapter record what they do.
"""

CHANGED = frozenset(
    {"with_config", "bind_tools", "bind", "with_structured_output", "with_retry"}
    | {"with_fallbacks", "with_options", "clone", "copy", "override", "with_types"}
)
"""Methods that return a changed copy of the object."""

WAITING = frozenset(
    {"requires_approval", "needs_approval", "require_confirmation", "interrupt_before"}
    | {"interrupt_after", "HumanInTheLoopMiddleware", "HandleDeferredToolCalls", "interrupt"}
    | {"ApprovalRequired", "CallDeferred", "LongRunningFunctionTool", "interrupt_on"}
)
"""Names in an agent's code that let a person be asked."""
