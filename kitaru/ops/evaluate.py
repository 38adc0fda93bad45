"""Evaluate recorded executions with functions of the user."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from kitaru.checkpoints import checkpoint
from kitaru.errors import UsageError
from kitaru.local_flow import LocalFlow
from kitaru.ops.show import show
from kitaru.runtime.executions import listing
from kitaru.runtime.executions.where import Where
from kitaru.runtime.journal.effort import Effort
from kitaru.runtime.steps.modules import import_file
from kitaru.stores.memory import MemoryStore

if TYPE_CHECKING:
    from kitaru.stores.base import Store
    from kitaru.view import ExecutionView

Evaluator = Callable[["ExecutionView"], Any]
"""Function of an execution: a number, a boolean, `(number, note)`, or None if it does not apply."""


@dataclass(frozen=True, slots=True)
class Score:
    """The score of an execution by one evaluator; `error` is why it is missing."""

    value: float | None = None
    note: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An execution with its scores by evaluator."""

    exec_id: str
    status: str
    replay_of: str
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of a cohort; `effort` is what the evaluators' own model calls took."""

    names: tuple[str, ...]
    executions: tuple[Evaluated, ...]
    effort: Effort

    @property
    def means(self) -> dict[str, float | None]:
        """The mean score of each evaluator over the executions to which it applies."""
        found: dict[str, float | None] = {}
        for name in self.names:
            values = [one.scores[name].value for one in self.executions]
            known = [value for value in values if value is not None]
            found[name] = fmean(known) if known else None
        return found

    @property
    def errors(self) -> int:
        """The number of scores that an exception of an evaluator prevented."""
        return sum(bool(score.error) for one in self.executions for score in one.scores.values())

    def below(self, minimum: Mapping[str, float]) -> list[str]:
        """Return the evaluators whose mean is missing or lower than its minimum."""
        means = self.means
        return [n for n, least in minimum.items() if (mean := means[n]) is None or mean < least]

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as JSON."""
        return {
            "means": self.means,
            "errors": self.errors,
            "tokens": self.effort.tokens,
            "cost": self.effort.cost,
            "executions": [
                {
                    "exec_id": one.exec_id,
                    "status": one.status,
                    "replay_of": one.replay_of,
                    "scores": {
                        name: {"value": score.value, "note": score.note, "error": score.error}
                        for name, score in one.scores.items()
                    },
                }
                for one in self.executions
            ],
        }


def load_evaluators(spec: str) -> dict[str, Evaluator]:
    """Import a file and return its evaluators by name, in the order of their definitions.

    Args:
        spec: `path.py` for all public functions that the file defines and that take one argument,
            or `path.py:name` for one of them.

    Raises:
        UsageError: the file or the function does not exist, or there is no evaluator.
    """
    path, _, wanted = spec.partition(":")
    module = import_file(Path(path))
    found: dict[str, Evaluator] = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and len(inspect.signature(value).parameters) == 1
    }
    if wanted:
        found = {name: value for name, value in found.items() if name == wanted}
    if not found:
        raise UsageError(
            f"{spec} contains no evaluator.",
            help="Write a function of an execution: def short(run): return len(run.result) < 500",
        )
    return found


def evaluate(
    store: Store,
    evaluators: Mapping[str, Evaluator],
    where: Where,
    limit: int = 20,
    begun: Callable[[str], None] | None = None,
) -> Evaluation:
    """Evaluate the newest executions that a filter selects, replays included.

    An evaluator may call models with `kitaru.llm`. It runs as a checkpoint of a flow on a store in
    memory, so nothing is written to `store`. An exception of an evaluator is the error of its
    score, and the others run.

    Args:
        evaluators: functions by name, as `load_evaluators` returns them.
        where: which executions.
        limit: maximum number of executions.
        begun: called with the id of each execution before its evaluation.

    Raises:
        EnvironmentFailure: the store cannot be used.

    Example:
        evaluate(store, {"short": lambda run: len(run.result) < 500}, Where(flow="review")).means
    """
    rows: list[Evaluated] = []
    effort = Effort()
    listed = listing.matching(store, where)
    for item in islice(listed, limit):
        if begun is not None:
            begun(item["exec_id"])
        view = show(store, item["exec_id"])
        scores, took = _scored(view, evaluators)
        effort += took
        source = view.replay.source if view.replay else ""
        rows.append(Evaluated(view.exec_id, str(view.status), source, scores))
    return Evaluation(tuple(evaluators), tuple(rows), effort)


def _scored(
    view: ExecutionView, evaluators: Mapping[str, Evaluator]
) -> tuple[dict[str, Score], Effort]:
    steps = {name: _step(name, function, view) for name, function in evaluators.items()}

    def evaluation(exec_id: str) -> dict[str, list[Any]]:
        found = {}
        for name, step in steps.items():
            try:
                found[name] = step()
            except Exception as error:
                found[name] = [None, "", f"{type(error).__name__}: {error}"]
        return found

    own = MemoryStore()
    judging = LocalFlow(evaluation, name="evaluate", cache=False, retries=0)
    handle = judging.options(store=own).run(view.exec_id)
    found = {name: Score(*row) for name, row in handle.wait().items()}
    return found, show(own, handle.exec_id).effort


def _step(name: str, function: Evaluator, view: ExecutionView) -> Callable[[], list[Any]]:
    @checkpoint(name=name)
    def step() -> list[Any]:
        value, note = found if isinstance(found := function(view), tuple) else (found, "")
        if value is not None and not isinstance(value, bool | int | float):
            raise UsageError(
                f"The evaluator {name} returned a {type(value).__name__}.",
                help="Return a number, a boolean, a tuple of a number and a note, or None.",
            )
        return [None if value is None else float(value), str(note), ""]

    return step
