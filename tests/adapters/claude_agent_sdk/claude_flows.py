"""Flows that run Claude's real command line tool against the scripted model.

python -m tests.adapters.claude_agent_sdk.claude_flows FLOW EXEC_ID PROMPT
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ToolAnnotations, tool

from kitaru import aio, checkpoint, flow
from kitaru.adapters.claude_agent_sdk import KitaruClaudeRunner, flow_tool
from tests.waiting import wait_for_file

KEY = "sk-ant-api03-a-key-of-the-tests"


def options(**given: Any) -> ClaudeAgentOptions:
    """Return options for the model server of the test, in the folder of the test."""
    folder = Path(os.environ["CLAUDE_FOLDER"])
    (folder / "work").mkdir(exist_ok=True)
    env = {
        "HOME": str(folder),
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
        "ANTHROPIC_BASE_URL": os.environ["CLAUDE_MODEL"],
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
    }
    return ClaudeAgentOptions(
        model="claude-sonnet-4-5",
        env=env,
        setting_sources=[],
        cwd=folder / "work",
        allowed_tools=["Bash"],
        **given,
    )


@flow
async def free(prompt: str) -> list[Any]:
    """Run Claude without approvals."""
    result = await KitaruClaudeRunner(options(), name="coder").run(prompt)
    return [result.result, result.session_id, result.total_cost_usd]


@flow
async def asking(prompt: str) -> str | None:
    """Run Claude; a person approves each command."""
    return (await KitaruClaudeRunner(options(), name="coder", ask=["Bash"]).run(prompt)).result


@flow
def plain(prompt: str) -> str | None:
    """Run Claude twice in a flow that is not async; the second run continues the first."""
    coder = KitaruClaudeRunner(options(), name="coder")
    first = asyncio.run(coder.run(prompt))
    return asyncio.run(coder.run("And now?", resume=first.session_id)).result


@tool("look", "Look at an item.", {"item": str}, ToolAnnotations(readOnlyHint=True))
async def look(arguments: dict[str, Any]) -> dict[str, Any]:
    """Look at an item, and log it. An item `slow` takes until the file `go` exists."""
    folder, item = Path(os.environ["CLAUDE_FOLDER"]), arguments["item"]
    with (folder / "looked").open("a") as file:
        file.write(f"{item}\n")
    if item == "slow":
        await asyncio.to_thread(wait_for_file, folder / "go")
    if item == "broken":
        raise ValueError("it is broken")
    return {"content": [{"type": "text", "text": f"saw {item}"}]}


@checkpoint
async def weigh(arguments: dict[str, Any]) -> dict[str, Any]:
    """Weigh an item: a checkpoint."""
    return {"content": [{"type": "text", "text": f"{arguments['item']} is heavy"}]}


@flow_tool
@tool("consult", "Ask a person.", {"item": str})
async def consult(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask a person about an item."""
    said = await aio.wait(name="person", question=arguments["item"], schema=str)
    return {"content": [{"type": "text", "text": said}]}


TOOLS = {"shop": [look, tool("weigh", "Weigh an item.", {"item": str})(weigh), consult]}
ALLOWED = [f"mcp__shop__{one.name}" for one in TOOLS["shop"]]


@flow
async def shop(prompt: str) -> str | None:
    """Run Claude with tools of this process."""
    given = replace(options(), allowed_tools=["Bash", *ALLOWED])
    return (await KitaruClaudeRunner(given, name="coder", tools=TOOLS).run(prompt)).result


if __name__ == "__main__":
    started = {"free": free, "shop": shop}[sys.argv[1]]
    started.options(exec_id=sys.argv[2]).run(sys.argv[3]).wait()
