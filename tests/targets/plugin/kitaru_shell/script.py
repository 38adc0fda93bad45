"""The script as data: four values in a fixed frame."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

INPUT = "KITARU_INPUT_"
_TOLD = (
    '--step "$1" --run "$run" --store "${KITARU_STORE:-$store}" '
    f'--execution "${{KITARU_EXECUTION:-$execution}}" --inputs-env {INPUT} '
    '--inputs-key "${KITARU_INPUTS:-}"'
)
_FRAME = """\
#!/bin/sh
# A flow, compiled by Kitaru. Compile it again instead of changing this file.
set -eu
store={store}
execution={execution}
run="${{KITARU_RUN:-$(date +%s)-$$}}"
step() {{
{command} {told}
}}
{steps}
"""


@dataclass(frozen=True, slots=True)
class Script:
    """The words that start a step, the steps in their order, and what a run may leave open."""

    command: tuple[str, ...]
    steps: tuple[str, ...]
    store: str
    execution: str


def render(script: Script) -> str:
    """Return the text of a script; every word of a user's is quoted."""
    return _FRAME.format(
        store=shlex.quote(script.store),
        execution=shlex.quote(script.execution),
        command=shlex.join(script.command),
        told=_TOLD,
        steps="\n".join(f"step {name}" for name in script.steps),
    )


def read(text: str) -> Script:
    """Return what a script holds; raise ValueError when it is not one that `render` makes."""
    words = shlex.split(text, comments=True)
    begins, ends = words.index("{") + 1, len(words) - 1 - words[::-1].index("}")
    found = Script(
        command=tuple(words[begins : ends - len(shlex.split(_TOLD))]),
        steps=tuple(words[ends + 2 :: 2]),
        store=words[2].removeprefix("store="),
        execution=words[3].removeprefix("execution="),
    )
    if render(found) != text:
        raise ValueError("it is not the script that Kitaru writes")
    return found
