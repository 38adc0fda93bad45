"""Command line of a step: `python -m kitaru.runtime step --plan … --step …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kitaru.errors import KitaruError, UsageError
from kitaru.runtime.engine import signals
from kitaru.runtime.steps.inputs import InputSource
from kitaru.runtime.steps.process import Request, flush, say, say_failure, terminate
from kitaru.runtime.steps.step import run_step
from kitaru.wire.plan import OWN_DEFAULT


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return the exit code: 0 done, 1 flow, 2 usage, 3 environment."""
    given = _parser().parse_args(arguments)
    try:
        request = _request(given)
        with signals.handled(lambda: terminate(request)):
            return run_step(request)
    except KitaruError as error:
        say(f"error: {error}")
        return error.exit_code
    except Exception as error:
        # Importing the user's module runs the user's code.
        say_failure(error)
        return 1
    finally:
        flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kitaru.runtime", allow_abbrev=False)
    step = parser.add_subparsers(required=True).add_parser("step", allow_abbrev=False)
    step.add_argument("--plan", required=True, type=Path)
    step.add_argument("--plan-digest", default="", metavar="SHA256")
    step.add_argument("--step", required=True)
    step.add_argument("--item", default="")
    step.add_argument("--execution", default="")
    step.add_argument("--run", default="")
    step.add_argument("--store", default="")
    step.add_argument("--input", action="append", default=[], metavar="NAME=TEXT")
    step.add_argument("--inputs-encoded", action="store_true")
    step.add_argument("--inputs-env", default="", metavar="PREFIX")
    step.add_argument("--inputs-key", default="")
    step.add_argument("--next-file", type=Path)
    step.add_argument("--status-file", type=Path)
    step.add_argument("--outcome-file", type=Path)
    step.add_argument("--outcome-key", default="")
    step.add_argument("--target", default="")
    step.add_argument("--answer", default="", metavar="JSON")
    step.add_argument("--skip-code", type=int, default=0)
    step.add_argument("--items-file", type=Path)
    step.add_argument("--seconds-file", type=Path)
    step.add_argument("--longest-wait", type=int, default=0, metavar="SECONDS")
    step.add_argument("--list", action="append", default=[], metavar="FIELD=STEP")
    step.add_argument("--existing", action="store_true")
    return parser


def _request(given: argparse.Namespace) -> Request:
    return Request(
        plan=given.plan,
        plan_digest=given.plan_digest,
        step=given.step,
        execution=_unless_own(given.execution),
        run=given.run,
        store=given.store,
        item=given.item,
        next_file=given.next_file,
        status_file=given.status_file,
        items_file=given.items_file,
        seconds_file=given.seconds_file,
        longest_wait=given.longest_wait,
        outcome_file=given.outcome_file,
        outcome_key=given.outcome_key,
        given=InputSource(
            dict(map(_pair, given.input)),
            given.inputs_env,
            _unless_own(given.inputs_key),
            given.inputs_encoded,
        ),
        target=given.target,
        answer=_unless_own(given.answer),
        skip_code=given.skip_code,
        lists=dict(map(_pair, given.list)),
        existing=given.existing,
    )


def _unless_own(text: str) -> str:
    """Return `text`, or "" for the placeholder of targets that do not accept empty strings."""
    return "" if text == OWN_DEFAULT else text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not NAME=TEXT.")
    return name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
