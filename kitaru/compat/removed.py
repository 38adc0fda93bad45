"""Names of Kitaru 0.21 and earlier without an equivalent, and what to write instead.

This module contains only data: the compiler reads it, and so does `kitaru.__getattr__`.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_SERVER = "Kitaru has no server: all state is in a store. "

REMOVED: Mapping[str, str] = {
    "connect": f"{_NO_SERVER}Remove the call, and name the store: KITARU_STORE=s3://bucket/prefix",
    "KitaruConfig": "Settings are in [tool.kitaru] of pyproject.toml: kitaru stack show",
    "FailureOrigin": "Catch EnvironmentFailure, Diverged or CheckpointFailed of kitaru.errors.",
    "LLMResponse": "`kitaru.llm` returns the text; with `tools=` it returns a `kitaru.Reply`.",
    "LLMFinishReason": "`kitaru.llm` returns the text; with `tools=` it returns a `kitaru.Reply`.",
    "LLMToolCall": "Use `kitaru.ToolCall`, of `kitaru.Reply.tool_calls`.",
    "LLMToolDefinition": "Write a tool as a dict, as OpenAI writes it: kitaru.llm(…, tools=[{…}])",
    "LLMUsage": "Read tokens and cost with `kitaru executions get EXEC`.",
    "events": "Call kitaru.log(…), or print: kitaru executions logs EXEC --follow",
    "run_sandbox_command": "Call the sandbox's own client in a checkpoint.",
}

ATTRIBUTES: Mapping[str, str] = {
    "memory.MemoryEntry": "Use kitaru.memory.Entry, or Version of kitaru.memory.history(key).",
    "memory.MemoryScopeInfo": "List the scopes: client.memory.scopes(), kitaru memory scope list",
    "ScopedMemories.compact": 'Use client.memory.compact(key, scope="namespace:NAME").',
    "ScopedMemories.compaction_log": "See `compacted` of client.memory.history(key, scope=SCOPE).",
    "ScopedMemories.purge_scope": "Call purge for each key of client.memories.list(scope=NAME).",
    "ScopedMemories.reindex": "Remove the call: nothing has to be rebuilt.",
    "ExecutionView.refresh": "Read it again: client.executions.get(execution.exec_id)",
    "ExecutionView.retry": "Call client.executions.retry(execution.exec_id).",
    "ExecutionView.resume": "Call client.executions.resume(execution.exec_id).",
    "ExecutionView.cancel": "Call client.executions.cancel(execution.exec_id).",
    "Executions.events": "Follow an execution's output: client.executions.logs(id, follow=True)",
    "Executions.cohort": "Replay many: client.executions.replay_many(flow=NAME)",
    "Flow.start": "Start it with .run(…).",
    "KitaruClient.auth": f"{_NO_SERVER}Credentials are those of the store's provider.",
}

COMMANDS: Mapping[str, str] = {
    "login": f"{_NO_SERVER}Name the store: export KITARU_STORE=s3://bucket/prefix",
    "logout": f"{_NO_SERVER}Remove KITARU_STORE, or the `store` of your stack.",
    "status": f"{_NO_SERVER}See what is in force: kitaru stack show",
    "ui": f"{_NO_SERVER}See an execution: kitaru executions get EXEC",
    "info": "See what is in force: kitaru stack show",
    "log-store": "Logs are in the execution's store: kitaru executions logs EXEC",
    "clean": "Remove old executions: kitaru store gc --older-than 90d",
    "project": "Name another store, or a prefix of one, per project: KITARU_STORE=s3://bucket/name",
}

PARTS: Mapping[str, str] = {
    "deploy --input": (
        "Give the flow's parameters defaults, or pass inputs when you invoke it: "
        "kitaru invoke FLOW --input NAME=VALUE"
    ),
    "executions logs --grouped": (
        "Show the output of one invocation: kitaru executions logs EXEC --invocation ID"
    ),
    "executions logs --limit": "Cut the output: kitaru executions logs EXEC | tail -n 20",
    "executions replay --skip": (
        "Set the result of a checkpoint: kitaru executions replay EXEC --set checkpoint.ID=VALUE"
    ),
    "executions replay --tag": (
        "Name several executions by flow or status: kitaru executions replay --where flow=NAME"
    ),
    "flow deployments curl": "There is no server. Start an execution: kitaru invoke FLOW",
    "flow deployments delete": (
        "Versions stay, because executions keep theirs. Move a tag: kitaru flow tag FLOW@v2 TAG"
    ),
    "flow deployments logs": "Logs belong to an execution: kitaru executions logs EXEC",
    "memory compaction-log": (
        "A version says what it was compacted from: kitaru memory history KEY --json"
    ),
    "memory purge-scope": "List the keys and purge each: kitaru memory purge KEY",
    "memory reindex": "Nothing has to be rebuilt: the store's own records are read.",
    "secrets show --show-values": (
        "No command prints a secret. Read it where it is used: kitaru.secret(NAME)"
    ),
}

VARIABLES: Mapping[str, str] = {
    "KITARU_SERVER_URL": "KITARU_STORE",
    "KITARU_AUTH_TOKEN": "the credentials of the store's provider",
    "KITARU_PROJECT": "a prefix in KITARU_STORE",
    "KITARU_CONFIG_PATH": "[tool.kitaru] in pyproject.toml",
    "KITARU_DEBUG": "KITARU_TRACEBACK",
    "KITARU_UI_URL": "kitaru executions get",
    "KITARU_LOG_STORE_BACKEND": "KITARU_STORE",
    "KITARU_LOG_STORE_ENDPOINT": "KITARU_STORE",
    "KITARU_LOG_STORE_API_KEY": "the credentials of the store's provider",
}
