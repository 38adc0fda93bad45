"""What several flows share."""

from kitaru import checkpoint

text = "a module global that no flow means"


@checkpoint
def spell(text: str) -> str:
    return text.replace("teh", "the")


@checkpoint
def shorten(text: str, limit: int) -> str:
    return text[:limit]


def polish(draft: str, limit: int = 60) -> str:
    checked = spell(draft)
    if len(checked) <= limit:
        return checked
    short = shorten(checked, limit)
    return f"{short}…"


def signed(draft: str, *, by: str) -> str:
    return f"{spell(draft)} — {by} ({len(text)})"
