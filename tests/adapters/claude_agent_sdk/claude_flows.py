"""Flows that run Claude's real command line tool against the scripted model.

python -m tests.adapters.claude_agent_sdk.claude_flows EXEC_ID PROMPT
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions

from kitaru import flow
from kitaru.adapters.claude_agent_sdk import KitaruClaudeRunner

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


if __name__ == "__main__":
    free.options(exec_id=sys.argv[1]).run(sys.argv[2]).wait()
