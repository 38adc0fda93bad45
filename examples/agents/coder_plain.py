"""A coding agent of the Claude Agent SDK, as people write it: a crash loses the run.

pip install claude-agent-sdk
python examples/agents/coder_plain.py "Fix the failing test."
"""

import sys

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query

options = ClaudeAgentOptions(model="claude-sonnet-4-5", allowed_tools=["Read", "Bash"])


async def solve(problem: str) -> str:
    result = "nothing"
    async for message in query(prompt=problem, options=options):
        if isinstance(message, ResultMessage):
            result = message.result
    return result


if __name__ == "__main__":
    import asyncio

    print(asyncio.run(solve(" ".join(sys.argv[1:]))))
