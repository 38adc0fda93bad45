"""`kitaru evaluate`: score recorded executions with functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.output import Output, counted, label
from kitaru.cli.render.comparison import effort
from kitaru.cli.values import pairs
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.ops.evaluate import Evaluation, Score

EPILOG = """Exit codes: 0 all minimums are reached, 1 a mean is below its minimum or an evaluator
failed, 2 usage error, 3 store error."""


@click.command(short_help="Score recorded executions with your functions.", epilog=EPILOG)
@click.option(
    "--with", "specs", multiple=True, required=True, metavar="FILE[:NAME]",
    help="File with evaluators, or one evaluator in it. Repeatable.",
)  # fmt: skip
@options.where
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True,
    help="Evaluate at most this many executions, the newest first.",
)  # fmt: skip
@click.option(
    "--min", "minimums", multiple=True, metavar="NAME=NUMBER",
    help="Fail if the mean of this evaluator is lower. Repeatable.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def evaluate(
    output: Output, specs: tuple[str, ...], wheres: tuple[str, ...], limit: int,
    minimums: tuple[str, ...], store: str | None,
) -> int:  # fmt: skip
    """Score recorded executions, replays included, with functions in Python files.

    An evaluator is a function of an execution. It returns a number, a boolean, a tuple of a number
    and a note, or None if it does not apply. It may call models with `kitaru.llm`. Nothing is
    written to the store.

    \b
        def short(run):
            return len(run.result) < 500
    """
    from kitaru.ops.evaluate import load_evaluators

    found = {name: one for spec in specs for name, one in load_evaluators(spec).items()}
    least = _minimums(minimums, list(found))
    shown = reader_of(store).evaluate(found, where=pairs(wheres, "--where"), limit=limit)
    failing = shown.below(least)
    if output.as_json:
        output.document({**shown.to_dict(), "below_minimum": failing})
    else:
        _show(shown, least, output)
    return 1 if failing or shown.errors else 0


def _minimums(given: tuple[str, ...], names: list[str]) -> dict[str, float]:
    found = {}
    for name, text in pairs(given, "--min").items():
        if name not in names:
            raise UsageError(
                f"--min {name}: there is no such evaluator.", help=f"one of {', '.join(names)}"
            )
        try:
            found[name] = float(text)
        except ValueError:
            raise UsageError(
                f"--min {name}={text}: {text!r} is not a number.", help=f"--min {name}=0.9"
            ) from None
    return found


def _show(found: Evaluation, least: dict[str, float], output: Output) -> None:
    rows = [
        [one.exec_id, one.status, *(_cell(one.scores[name]) for name in found.names)]
        for one in found.executions
    ]
    failing = found.below(least)
    if rows:
        means = [
            label(_number(mean), "red" if name in failing else "green")
            for name, mean in found.means.items()
        ]
        rows.append(["mean", "", *means])
    output.table(rows, ["execution", "status", *found.names], empty="no executions")
    for one in found.executions:
        for name, score in one.scores.items():
            if told := score.error or score.note:
                output.say(f"{one.exec_id} {name}: {told}", hang=2)
    if found.executions:
        took = effort(found.effort) if found.effort.tokens else ""
        text = f"{counted(len(found.executions), 'execution')}"
        output.say(f"{text}; models of the evaluators: {took}" if took else text)
    for name in failing:
        output.say(f"{name} is below its minimum of {least[name]:g}")


def _cell(score: Score) -> str:
    return label("failed", "red") if score.error else _number(score.value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
