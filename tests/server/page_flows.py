"""Flows for the pages, with texts that try to look like a part of a page."""

from __future__ import annotations

import sys
import zlib
from typing import Any, Literal

from pydantic import BaseModel

import kitaru
from kitaru import checkpoint, flow

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>'\"`{{7*7}}{% raw %}</textarea></title>"
    "\u202egnp.exe \u2066x\u2069 \u200b\u0000\u001b[2J A\u0301\u0301\u0301\u0301\u0301 "
    "javascript:alert(1) data:text/html,x\n ✓ already approved by legal"
)


class Change(BaseModel):
    clause: str
    must: bool = False


class Decision(BaseModel):
    verdict: Literal["approve", "reject"]
    changes: list[Change] = []
    limit: int = 100


@checkpoint
def research(topic: str) -> dict[str, Any]:
    sys.stdout.write(f"reading {topic}\n")
    sys.stderr.write(f"{HOSTILE}\n")
    kitaru.log(source=HOSTILE)
    kitaru.save("notes", [HOSTILE, {HOSTILE[:40]: 1}])
    return {"topic": topic, "text": HOSTILE}


@checkpoint
def draft(brief: Any) -> str:
    return kitaru.llm(prompt=f"Draft: {HOSTILE} {brief}", model="strong", system=HOSTILE)


@checkpoint
def square(number: int) -> int:
    return number * number


@checkpoint(retries=1)
def broken(topic: str) -> str:
    raise ValueError(f"{topic} {HOSTILE}")


@flow
def review(topic: str) -> str:
    brief = research(topic)
    squares = square.map([1, 2, 3, 4, 5, 6])
    text = draft(brief)
    kitaru.memory.set("tone", {"value": text, "squares": [one.result() for one in squares]})
    decision = kitaru.wait(
        name="legal", question=f"Send it? {HOSTILE}", schema=Decision, metadata={"about": HOSTILE},
        evidence={"Draft": text, f"Brief {HOSTILE[:60]}": brief},
    )  # fmt: skip
    return f"{decision.verdict}: {text}"


def png(width: int, height: int) -> bytes:
    """Return an image of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        size, check = len(data), zlib.crc32(kind + data)
        return size.to_bytes(4) + kind + data + check.to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress((b"\0" + b"\x34\x88\x9e" * width) * height)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@checkpoint
def pictures() -> bytes:
    kitaru.save("svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    kitaru.save("polyglot", png(1, 1) + HOSTILE.encode())
    return png(160, 40)


@checkpoint
def figures() -> list[dict[str, Any]]:
    return [{"region": HOSTILE, HOSTILE[:20]: number * 1.5, "n": number} for number in range(60)]


@checkpoint
def letter() -> str:
    return (
        f"# Offer {HOSTILE}\n\nDear *all*, see **page 2** and `{HOSTILE[:20]}`.\n\n"
        f"[click](javascript:alert(1)) ![x](http://evil.example/x.png) <http://evil.example>\n\n"
        f"| item | price |\n|:-:|--:|\n| {HOSTILE[:60]} | 5 |\n\n"
        f"```html\n{HOSTILE}\n```\n- one\n- two\n\n<div onclick='alert(1)'>block</div>\n"
    )


@checkpoint
def same(value: Any) -> Any:
    return value


@flow
def returns(value: Any) -> None:
    same(value)


@flow
def gallery() -> bool:
    chart, table, text = pictures(), figures(), letter()
    return kitaru.wait(
        name="look", question="Is it right?", schema=bool,
        evidence={"Letter": text, "Figures": table, "Chart": chart},
    )  # fmt: skip


@flow
def ask(topic: str) -> bool:
    return kitaru.wait(name="ok", question=f"Publish {topic}?", schema=bool)


@flow
def failing(topic: str) -> str:
    research(topic)
    return broken(topic)
