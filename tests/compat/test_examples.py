"""Programs as users of Kitaru 0.21 and earlier have them, in our own words: each runs unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kitaru_compiler import check

HEAD = """
import time
import kitaru
from kitaru import KitaruClient, checkpoint, flow, memory
from kitaru.client import ExecutionStatus

@checkpoint
def collect(topic: str) -> str:
    return f"facts on {topic}"

@checkpoint
def write(facts: str) -> str:
    return f"text of {facts}"

"""
# The flow and what a script does with it, and the last line that it prints.
PROGRAMS = {
    "first flow": ("""
@flow
def article(topic: str) -> str:
    return write(collect(topic))

handle = article.run(topic="owls")
result = handle.wait()
print(handle.exec_id != "", result)
""", "True text of facts on owls"),
    "artifacts of another execution": ("""
@checkpoint(type="tool_call")
def save_context(topic: str) -> str:
    kitaru.save("context", {"topic": topic}, type="context", tags=["research"])
    return topic

@checkpoint
def read_back(exec_id: str) -> str:
    return kitaru.load(exec_id, "context")["topic"] + kitaru.load(exec_id, "save_context")

@flow
def first(topic: str) -> str:
    return save_context(topic)

@flow
def second(exec_id: str) -> str:
    return read_back(exec_id)

source = first.run("owls")
source.wait()
print(second.run(source.exec_id).wait())
""", "owlsowls"),
    "runtimes of checkpoints": ("""
@checkpoint(runtime="isolated")
def heavy(n: int) -> int:
    return n * n

@checkpoint(runtime="inline", retries=1)
def light(n: int) -> int:
    return n + 1

@flow
def mixed(n: int) -> list:
    futures = [heavy.submit(i, id=f"heavy_{i}") for i in range(n)]
    return [light(sum(f.result() for f in futures)), heavy.map([1, 2], after=futures).result()]

print(mixed.run(3).wait())
""", "[6, [1, 4]]"),
    "configuration": ("""
@flow(cache=True, retries=2, stack="local")
def article(topic: str) -> str:
    return write(collect(topic))

kitaru.configure(
    cache=False, retries=1,
    image=kitaru.ImageSettings(base_image="python:3.12-slim", environment={"LEVEL": "debug"}),
)
handle = article.run("owls", retries=3)
print(handle.wait())
""", "text of facts on owls"),
    "notes": ("""
@checkpoint
def measured(topic: str) -> str:
    kitaru.log(words=2, cost={"usd": 0.01})
    return topic

@flow
def article(topic: str) -> str:
    kitaru.log(stage="begun", exec=kitaru.current_execution_id())
    return measured(topic)

print(article.run("owls").wait())
""", "owls"),
    "a model": ("""
@flow
def article(topic: str) -> str:
    brief = kitaru.llm(f"Brief on {topic}", model="fast", system="Be short.", name="brief")
    return kitaru.llm(brief, model="fast", temperature=0.2, max_tokens=50, name="text")

print(article.run("owls").wait())
""", "a mocked answer"),
    "executions from outside": ("""
@checkpoint
def summary(topic: str) -> str:
    kitaru.save("summary_context", {"topic": topic}, type="context")
    return f"summary of {topic}"

@flow
def summarize(topic: str) -> str:
    return summary(topic)

handle = summarize.run("owls")
handle.wait()
client = KitaruClient()
execution = client.executions.get(handle.exec_id)
latest = client.executions.latest(flow="summarize")
assert latest.exec_id == execution.exec_id == client.executions.list(limit=5)[0].exec_id
found = next(a for a in client.artifacts.list(handle.exec_id) if a.name == "summary_context")
print(execution.status.value, found.load()["topic"], execution.flow_name)
""", "completed owls summarize"),
    "a wait that is answered": ("""
@flow
def gated(topic: str) -> str:
    text = write(collect(topic))
    approved = kitaru.wait(
        schema=bool, name="approve", question=f"Publish {topic}?", metadata={"draft": text},
        timeout=0,
    )
    return text if approved else "rejected"

handle, client = gated.run("owls"), KitaruClient()
while handle.status != ExecutionStatus.WAITING:
    time.sleep(0.01)
execution = client.executions.get(handle.exec_id)
assert execution.pending_wait.name == client.executions.pending_waits(handle.exec_id)[0].name
client.executions.input(handle.exec_id, wait="approve", value=True)
print(handle.wait())
""", "text of facts on owls"),
    "a replay with another result": ("""
@flow
def article(topic: str) -> str:
    return write(collect(topic))

source = article.run("owls")
source.wait()
client = KitaruClient()
replayed = client.executions.replay(
    source.exec_id, at="write", checkpoint_overrides={"collect": {"output": "edited"}}
)
exec_id = replayed.results[0].replay_exec_id
while not client.executions.get(exec_id).status.is_finished:
    time.sleep(0.01)
written = next(c for c in client.executions.get(exec_id).checkpoints if c.name == "write")
print(next(a for a in written.artifacts if a.direction == "output").load())
""", "text of edited"),
    "memory": ("""
@checkpoint
def increment(count: int) -> int:
    return count + 1

@flow
def remembers(space: str) -> None:
    memory.configure(scope=space, scope_type="namespace")
    count = increment(memory.get("sessions/count"))
    memory.set("sessions/count", count)
    memory.delete("scratch/old")
    memory.configure(scope_type="execution")
    memory.set("progress/phase", "done")
    memory.configure(scope_type="flow")
    memory.set("summaries/latest", f"{count} sessions")

memory.configure(scope="docs", scope_type="namespace")
memory.set("sessions/count", 2)
memory.set("scratch/old", {"status": "old"})
handle = remembers.run("docs")
while not handle.status.is_finished:
    time.sleep(0.01)
client = KitaruClient()
memories, execution = client.memories, client.executions.get(handle.exec_id)
def value(entry):
    return client.artifacts.get(entry.artifact_id).load()
assert memories.get("scratch/old", scope="docs", scope_type="namespace") is None
assert memories.history("scratch/old", scope="docs", scope_type="namespace")[0].is_deleted
phase = memories.get("progress/phase", scope=handle.exec_id, scope_type="execution")
latest = memories.get("summaries/latest", scope=execution.flow_id, scope_type="flow")
print(value(memories.get("sessions/count", scope="docs")), value(phase), value(latest))
""", "3 done 3 sessions"),
    "an agent's loop": ("""
@checkpoint(type="llm_call")
def think(history: list) -> dict:
    done = len(history) > 2
    return {"tool": None if done else "look", "text": f"step {len(history)}"}

@checkpoint(type="tool_call")
def look(text: str) -> str:
    kitaru.save("seen", text, type="output")
    return f"saw {text}"

TOOLS = {"look": look}

@flow
def agent(task: str) -> str:
    history = [task]
    while (thought := think(history))["tool"]:
        history.append(TOOLS[thought["tool"]](thought["text"], id=f"tool_{len(history)}"))
    return " / ".join(history)

print(agent.run("find").wait())
""", "find / saw step 1 / saw step 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_runs_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_LLM_MOCK_RESPONSE", "a mocked answer")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    source, expected = PROGRAMS[name]
    path = tmp_path / "program.py"
    path.write_text(HEAD + source)
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == expected
    assert [one for one in check(path)[0] if one.severity == "error"] == []
