"""An agent that picks its own tools until it is done: a `while` loop and dynamic dispatch.

No compiler can know how often the loop runs or which tool it calls, so the loop stays together in
one step of the compiled pipeline. Every checkpoint inside it is still recorded separately: an agent
that is killed in its third round resumes in its third round.
"""

from typing import Any

from kitaru import checkpoint, flow

LIBRARY = {
    "durable execution": "After a crash, a program continues where it stopped.",
    "journal": "A durable program records each result before it continues.",
    "replay": "After a crash, the program runs again and reads the recorded results.",
}


@checkpoint
def search(query: str) -> list[str]:
    return [title for title in LIBRARY if query in title or title in query]


@checkpoint
def read(title: str) -> str:
    return LIBRARY[title]


@checkpoint
def decide(question: str, notes: list[str], unread: list[str], rounds: int) -> dict[str, Any]:
    """Return the next tool to call. In a real agent, a model would choose it."""
    if rounds == 0:
        return {"tool": "search", "arguments": {"query": question}}
    if unread:
        return {"tool": "read", "arguments": {"title": unread[0]}}
    if len(notes) < 2:
        return {"tool": "search", "arguments": {"query": "journal"}}
    return {"tool": "finish", "arguments": {}}


@checkpoint
def write_report(question: str, notes: list[str]) -> str:
    return f"{question}: " + " ".join(notes)


TOOLS: dict[str, Any] = {"search": search, "read": read}


@flow
def research_agent(question: str = "durable execution", max_rounds: int = 8) -> str:
    notes: list[str] = []
    unread: list[str] = []
    rounds = 0
    while rounds < max_rounds:
        action = decide(question, notes, unread, rounds)
        if action["tool"] == "finish":
            break
        found = TOOLS[action["tool"]](**action["arguments"])
        if action["tool"] == "search":
            unread = [*unread, *found]
        else:
            notes = [*notes, found]
            unread = unread[1:]
        rounds += 1
    return write_report(question, notes)
