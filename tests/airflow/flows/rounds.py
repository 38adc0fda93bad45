"""Waits in a loop whose length nobody knows before: both are in one step."""

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def draft(topic: str) -> str:
    return f"about {topic}"


@checkpoint
def revise(text: str, hint: str) -> str:
    return f"{text}, {hint}"


@checkpoint
def publish(text: str) -> str:
    return text.upper()


@flow
def rounds(topic: str) -> str:
    text = draft(topic)
    while (hint := kitaru.wait(name="hint", question=f"{text}: what else?", schema=str)) != "fine":
        text = revise(text, hint)
    return publish(text)
