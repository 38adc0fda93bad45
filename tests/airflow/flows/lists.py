"""Calls over a list that is known only when it is there."""

from kitaru import checkpoint, flow


@checkpoint
def parts(text: str) -> list[str]:
    return text.split()


@checkpoint(retries=1)
def shout(part: str) -> str:
    if part == "no":
        raise ValueError(part)
    return part.upper()


@checkpoint
def joined(words: list[str]) -> str:
    return " ".join(words)


@flow
def lists(text: str) -> str:
    calls = [shout.submit(part) for part in parts(text)]
    return joined([call.result() for call in calls])
