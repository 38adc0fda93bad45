"""Runs small processes against one store in every order their operations can come in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from kitaru.stores import Store

from .harness import FaultyStore, Killed

Runner = Callable[[Store], None]


class _Process(threading.Thread):
    """A runner whose every store operation waits for its turn."""

    def __init__(self, runner: Runner, store: Store, kill_at: int) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Semaphore(0)
        self.arrived = threading.Semaphore(0)
        self.ended = False
        self.error: BaseException | None = None
        self._runner = runner
        self._store = _TurnByTurn(store, kill_at, self)

    def run(self) -> None:
        try:
            self._runner(self._store)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.ended = True
        self.arrived.release()

    def step(self) -> None:
        self.turn.release()
        self.arrived.acquire()


class _TurnByTurn(FaultyStore):
    def __init__(self, inner: Store, kill_at: int, process: _Process) -> None:
        super().__init__(inner, "killed before", kill_at)
        self._process = process

    def _do(self, operation: Callable[[], object]) -> object:
        self._process.arrived.release()
        self._process.turn.acquire()
        return super()._do(operation)


def run(store: Store, runners: Sequence[Runner], choices: Sequence[int], kill_at: int) -> list[int]:
    """Run with the given choices, then always the first; return how many there were at each point.

    `kill_at` is the operation at which the first runner dies, 0 for never.
    """
    processes = [_Process(r, store, kill_at if n == 0 else 0) for n, r in enumerate(runners)]
    for process in processes:
        process.start()
        process.arrived.acquire()
    widths = []
    while running := [process for process in processes if not process.ended]:
        chosen = choices[len(widths)] if len(widths) < len(choices) else 0
        widths.append(len(running))
        running[min(chosen, len(running) - 1)].step()
    for process in processes:
        process.join()
        if process.error is not None:
            raise process.error
    return widths


def every_schedule(attempt: Callable[[Sequence[int]], list[int]]) -> int:
    """Call `attempt` with every list of choices, depth first; return how many there were."""
    return sum(1 for _ in _schedules(attempt))


def _schedules(attempt: Callable[[Sequence[int]], list[int]]) -> Iterator[list[int]]:
    choices: list[int] = []
    while True:
        widths = attempt(choices)
        choices += [0] * (len(widths) - len(choices))
        yield choices
        while choices and choices[-1] == widths[len(choices) - 1] - 1:
            choices.pop()
        if not choices:
            return
        choices[-1] += 1
