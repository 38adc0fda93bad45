"""A durable coding agent of the Claude Agent SDK: compare it with `coder_plain.py`.

    pip install claude-agent-sdk
    python examples/agents/coder.py "Fix the failing test."

Each turn is recorded once, and a turn whose process died continues its transcript. Each command
waits for a person: the process may end, and `kitaru executions input` continues the execution.
"""

import sys

from claude_agent_sdk import ClaudeAgentOptions

from kitaru import flow
from kitaru.adapters.claude_agent_sdk import KitaruClaudeRunner

options = ClaudeAgentOptions(model="claude-sonnet-4-5", allowed_tools=["Read", "Bash"])
coder = KitaruClaudeRunner(options, name="coder", ask=["Bash"])


@flow
async def solve(problem: str) -> str:
    result = (await coder.run(problem)).result
    return result or "nothing"


if __name__ == "__main__":
    print(solve.run(" ".join(sys.argv[1:])).wait())
