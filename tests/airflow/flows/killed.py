"""A step that is killed in its first attempt, by the operating system."""

import os
import signal
from pathlib import Path

from kitaru import checkpoint, flow


@checkpoint
def note(folder: str) -> str:
    with (Path(folder) / "notes").open("a") as file:
        file.write("noted\n")
    return folder


@checkpoint(retries=1)
def killed_once(folder: str) -> int:
    with (Path(folder) / "tries").open("a") as file:
        file.write("tried\n")
    tries = len((Path(folder) / "tries").read_text().splitlines())
    if tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


@checkpoint
def report(tries: int) -> str:
    return f"{tries} tries"


@flow
def killed(folder: str) -> str:
    return report(killed_once(note(folder)))
