"""Decide about a tool call: a command that Claude's command line tool runs before the tool.

    python permission_hook.py ANSWERS < call

ANSWERS is a JSON file with the answers of persons by the id of a call: true, false, or the reason
why the call must not run. A call without an answer is deferred: the turn ends, and the flow waits
for the answer. The command is part of the settings, because a deferred tool continues before the
hooks of the SDK are registered.

Exit code 2 blocks the tool. The caller turns any other failure into it.
"""

import json
import sys

try:
    call = json.load(sys.stdin)
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        answer = json.load(file).get(call["tool_use_id"])
except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
    sys.stderr.write(f"{error!r}\n")
    sys.exit(2)

output = {"hookEventName": "PreToolUse"}
if answer is None:
    # Nobody has answered yet.
    output["permissionDecision"] = "defer"
elif answer is True:
    output["permissionDecision"] = "allow"
else:
    output["permissionDecision"] = "deny"
    output["permissionDecisionReason"] = answer or "A person refused it."
sys.stdout.write(json.dumps({"hookSpecificOutput": output}))
