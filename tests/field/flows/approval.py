"""Write, let a person ask for changes a few times, publish in two places."""

import kitaru
from kitaru import checkpoint, flow

from house import polish, signed


@checkpoint
def outline(topic: str) -> list[str]:
    return [f"Why {topic}", f"How {topic}", "What next"]


@checkpoint
def write(headings: list[str]) -> str:
    return "\n".join(f"# {heading}" for heading in headings)


@checkpoint
def revise(text: str, wish: str) -> str:
    return f"{text}\n({wish})"


@checkpoint
def publish(text: str, channel: str = "blog") -> str:
    return f"{channel}:{len(text)}"


@flow
def article(topic: str = "kayaks", rounds: int = 3, channels: tuple = ("blog", "mail")) -> dict:
    if not topic.strip():
        return {"status": "no topic"}
    text = write(headings := outline(topic))
    wishes = []
    for round in range(1, 4):
        wish = kitaru.wait(name=f"wish_{round}", question=f"{text}\nChanges?", schema=str)
        if wish == "stop":
            return {"status": "stopped", "wishes": wishes}
        if not wish:
            break
        wishes.append(wish)
        text = revise(text, wish)
    else:
        wishes.append("(no more rounds)")
    text = polish(text)
    text = signed(text, by="the team")
    posted = [publish(text, channel=c) for c in ("blog", "mail")]
    final = publish(text) if len(posted) > 5 or kitaru.wait(name="again") else None
    return {"posted": posted, "final": final, "wishes": wishes, "headings": len(headings)}
