"""Run threads one at a time, in the order of a seed, on a clock that only the scheduler moves.

Each simulated thread is a real thread that waits for its turn. A thread yields the turn at switch
points: operations of a store, locks, events, sleeps, and the start and end of threads. No other
thread runs meanwhile, so the same seed produces the same run.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.processes import Process

_PATIENCE_SECONDS = 60.0


class Killed(BaseException):
    """The process of this thread has ended."""


class Stuck(Exception):
    """No thread can continue, or the run exceeded its limit of steps or time."""


class Task:
    """A simulated thread."""

    def __init__(
        self, number: int, process: Process, name: str, work: Callable[[], object]
    ) -> None:
        self.number = number
        self.process = process
        self.name = name
        self.work = work
        self.thread: Any = None
        self.is_blocked = False
        self.is_done = False
        self.wakes_at = inf
        self.was_woken = False
        self.priority = 0.0
        self.turn = threading.Lock()
        self.turn.acquire()

    def __str__(self) -> str:
        return f"{self.process.name}.{self.number}"


class Scheduler:
    """Chooses the thread that runs next. One instance per run.

    `stickiness` is the probability that a thread keeps its turn at a switch point. With
    `by_priority` the runnable thread of the highest random priority runs, and priorities change
    rarely: this starves threads for long, which finds other bugs than a uniform choice. `hurry` is
    the probability that time passes although threads could run, as with slow threads.
    """

    def __init__(self, seed: int, *, most_steps: int = 200_000, keeps_trace: bool = False) -> None:
        self.random = random.Random(f"{seed} schedule")
        self.stickiness = self.random.choice([0.0, 0.3, 0.7, 0.9])
        self.by_priority = self.random.random() < 0.25
        self.hurry = self.random.choice([0.0, 0.0, 0.01, 0.05])
        self.now = 0.0
        self.steps = 0
        self.most_steps = most_steps
        self.most_seconds = 40 * 86400.0
        self.current: Task | None = None
        self.tasks: list[Task] = []
        self.failure: BaseException | None = None
        self.at_step: Callable[[Task], None] = lambda task: None
        self.enter: Callable[[Process], None] = lambda process: None
        self._digest = hashlib.blake2b(digest_size=16)
        self.trace: list[str] | None = [] if keeps_trace else None
        self._main = threading.Lock()
        self._main.acquire()
        self._unwinding: list[Task] = []
        self._count = 0
        self._is_over = False

    # The trace

    def note(self, text: str) -> None:
        """Add a line to the trace of the run."""
        line = f"{self.steps} {self.now:.6f} {self.current or '-'} {text}"
        self._digest.update(line.encode() + b"\n")
        if self.trace is not None:
            self.trace.append(line)

    def fingerprint(self) -> str:
        """Return the digest of the trace."""
        return self._digest.hexdigest()

    # Threads

    def spawn(self, process: Process, name: str, work: Callable[[], object]) -> Task:
        """Create a thread of `process` that runs `work` when it gets the turn."""
        self._count += 1
        task = Task(self._count, process, name, work)
        task.priority = self.random.random()
        self.tasks.append(task)
        threading.Thread(target=self._run, args=(task,), daemon=True).start()
        return task

    def run(self, first: Task) -> None:
        """Run until `first` has ended, then end all other threads, and raise the error, if any."""
        self._give(first)
        if not self._main.acquire(timeout=_PATIENCE_SECONDS * 10):
            raise Stuck("a thread keeps its turn for ever: it waits for something that is real")
        if self.failure is not None:
            raise self.failure

    def _run(self, task: Task) -> None:
        task.turn.acquire()
        try:
            if not task.process.is_dead:
                task.work()
        except Killed:
            pass
        except BaseException as error:
            self.fail(error)
        task.is_done = True
        self.tasks.remove(task)
        if task.thread is not None:
            task.thread.ended()
        self._leave(task)

    def fail(self, error: BaseException) -> None:
        """End the run with an error; the first one counts."""
        if self.failure is None:
            self.failure = error

    def _leave(self, task: Task) -> None:
        if self._unwinding:
            self._give(self._unwinding.pop())
        elif self._is_over or self.failure is not None or task.number == 1:
            self._end()
        else:
            following = self._choose(None)
            if following is None:
                self.fail(Stuck(f"no thread can continue: {self.waiting()}"))
                self._end()
            else:
                self._give(following)

    def _end(self) -> None:
        """Unwind all remaining threads, one after the other, and wake the caller of `run`."""
        self._is_over = True
        for task in self.tasks:
            task.process.is_dead = True
        left = next(iter(self.tasks), None)
        if left is None:
            self._main.release()
        else:
            self._give(left)

    def _give(self, task: Task) -> None:
        self.current = task
        task.is_blocked = False
        self.enter(task.process)
        task.turn.release()

    # Switch points

    def switch(self) -> None:
        """Let another thread run, if one is chosen; raise Killed if this process has ended."""
        task = self._step()
        if self.random.random() < self.stickiness and not self.by_priority:
            return
        following = self._choose(task)
        if following is not task and following is not None:
            self._give(following)
            task.turn.acquire()
            self._check(task)

    def block(self, seconds: float = inf) -> bool:
        """Wait for `wake`, at most that many seconds; return whether `wake` was called."""
        task = self._step()
        task.is_blocked, task.was_woken = True, False
        task.wakes_at = self.now + max(0.0, seconds)
        following = self._choose(None)
        if following is None:
            self.fail(Stuck(f"no thread can continue: {self.waiting()}"))
            task.process.is_dead = True
            raise Killed
        if following is not task:
            self._give(following)
            task.turn.acquire()
        else:
            task.is_blocked = False
        self._check(task)
        return task.was_woken

    def wake(self, task: Task) -> None:
        """Let a blocked thread continue."""
        if task.is_blocked:
            task.is_blocked, task.was_woken, task.wakes_at = False, True, inf

    def _step(self) -> Task:
        task = self.current
        assert task is not None, "a switch point outside the simulation"
        self._check(task)
        self.steps += 1
        if self.steps > self.most_steps or self.now > self.most_seconds:
            self.fail(Stuck(f"not finished: {self.waiting()}"))
            raise Killed
        self.at_step(task)
        self._check(task)
        return task

    def _check(self, task: Task) -> None:
        if task.process.is_dead or self.failure is not None:
            raise Killed

    def _choose(self, current: Task | None) -> Task | None:
        if self.hurry and self.random.random() < self.hurry:
            self._pass_time()
        ready = [task for task in self.tasks if not task.is_blocked]
        while not ready:
            if not self._pass_time():
                return None
            ready = [task for task in self.tasks if not task.is_blocked]
        if len(ready) == 1:
            return ready[0]
        if not self.by_priority:
            return self.random.choice(ready)
        if self.random.random() < 0.02:
            self.random.choice(ready).priority = self.random.random()
        if self.random.random() < 0.02 and current is not None:
            # A thread that polls for another thread must not starve it.
            current.priority = self.random.random() / 2
        return max(ready, key=lambda task: task.priority)

    def _pass_time(self) -> bool:
        """Move the clock to the next moment at which a thread wakes; return False if none does."""
        at = min((task.wakes_at for task in self.tasks if task.is_blocked), default=inf)
        if at == inf:
            return False
        self.now = max(self.now, at)
        for task in self.tasks:
            if task.is_blocked and task.wakes_at <= self.now:
                task.is_blocked, task.wakes_at = False, inf
        return True

    # Ends of processes

    def unwind(self, process: Process) -> None:
        """Let each other thread of a dead process end before any other thread runs."""
        assert self.current is not None
        me = self.current
        for task in [one for one in self.tasks if one.process is process and one is not me]:
            self._unwinding.append(me)
            self._give(task)
            me.turn.acquire()

    def waiting(self) -> str:
        """Return what each thread waits for, for display."""
        return ", ".join(
            f"{task} {task.name} until {task.wakes_at:.0f}"
            if task.is_blocked
            else f"{task} {task.name}"
            for task in self.tasks
        )
