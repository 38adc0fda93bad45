"""Decides how the build that an execution was started from runs here, and how it is attended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.cli.attend import answer_waits, finish, interrupted
from kitaru.cli.execution import answer_command
from kitaru.cli.output import Output, label
from kitaru.cli.values import parse_answer
from kitaru.errors import AnswerInvalid, StateError
from kitaru.runtime.executions.deployments import Deployments
from kitaru.runtime.recording import launches
from kitaru.runtime.recording.commands import command

if TYPE_CHECKING:
    from kitaru_targets.build import Build
    from kitaru_targets.dry_run import Ended, Report

    from kitaru.cli.changes import Asked
    from kitaru.client import KitaruClient
    from kitaru.runtime.recording.journal import Journal
    from kitaru.stores import Store
    from kitaru.wire.records import LaunchRecord


def attend_dry_run(
    exec_id: str,
    client: KitaruClient,
    output: Output,
    *,
    url: str,
    answers: Mapping[str, str],
    asking: bool,
    store: str | None,
) -> int:
    """Execute the build of a remembered dry run until it has ended or waits; show it.

    `answers` are the texts that answer waits by name; `asking` asks for the others. Raises
    StateError when this machine does not have the build, or an answer is for no wait.
    """
    left = dict(answers)

    def ask() -> bool:
        if client.executions.get(exec_id).status != "waiting":
            return False
        known = _answer(client, exec_id, left, store)
        return known or (asking and answer_waits(client, exec_id, output))

    try:
        play(exec_id, url, report=_reporting(output), ask=ask)
    except KeyboardInterrupt:
        return interrupted(exec_id, output, store)
    return finish(exec_id, client, output, store)


def begin_replay(asked: Asked, source: Journal, client: KitaruClient) -> str:
    """Begin the replay of a dry run, as a dry run of the same build; return its id.

    The document that goes on with it asks for no inputs, so those of its source are noted for it.

    Raises StateError when this machine does not have the build, and what `Asked.replay` raises.
    """
    launch = launched(source.store, source.exec_id)
    with unpacked(launch, source.store):
        begun = asked.replay(client, source.exec_id)
    inputs = {**launch.inputs, **asked.changed_inputs(source)}
    launches.remember(source.store, begun.exec_id, replace(launch, inputs=inputs))
    return begun.exec_id


def _answer(client: KitaruClient, exec_id: str, answers: dict[str, str], store: str | None) -> bool:
    """Answer the pending waits that an answer was given for; say whether there was one."""
    waits = client.executions.get(exec_id).to_dict()["waits"]
    known = [wait for wait in waits if wait["name"] in answers]
    if answers and not known:
        pending = ", ".join(wait["name"] for wait in waits)
        raise StateError(
            f"The execution {exec_id} waits for {pending}, not for {', '.join(answers)}.",
            help="\n".join(answer_command(exec_id, wait, store=store) for wait in waits),
        )
    for wait in known:
        value = parse_answer(answers.pop(wait["name"]), wait["schema"])
        try:
            client.executions.input(exec_id, value, wait=wait["name"])
        except AnswerInvalid as error:
            again = answer_command(exec_id, wait, store=store)
            raise AnswerInvalid(error.message, help=f"{error.help}\n{again}") from None
    return bool(known)


def play(exec_id: str, url: str, **told: Any) -> None:
    """Execute what is left of a remembered dry run; `told` is what `dry_run.run` also takes."""
    from kitaru_targets import dry_run

    from kitaru.stores import open_store

    opened = open_store(url)
    try:
        launch = launched(opened, exec_id)
        with unpacked(launch, opened) as build:
            dry_run.run(
                build, inputs=launch.inputs, answers={}, store_url=url, exec_id=exec_id, **told
            )
    finally:
        opened.close()


def _reporting(output: Output) -> Report:
    def report(ended: Ended) -> None:
        if not output.as_json:
            output.note(_line(ended))

    return report


def launched(store: Store, exec_id: str) -> LaunchRecord:
    """Return what an execution was started from; raise StateError when nobody noted it."""
    launch = launches.recall(store, exec_id)
    if launch is None:
        raise StateError(
            f"The execution {exec_id} does not run here.",
            help="Compile what is left: "
            + command(store, "executions", "resume", exec_id, "--target", "T"),
        )
    return launch


@contextmanager
def unpacked(launch: LaunchRecord, store: Store) -> Iterator[Build]:
    """Give the build of a launch for as long as the block runs: from this disk, or the store.

    Raises StateError when this machine does not have the build, and what reading a version does.
    """
    from kitaru_targets import build, deployed

    if not launch.deployment:
        yield build.read(Path(launch.directory))
        return
    version = Deployments(store).get(f"{launch.flow}@v{launch.deployment}")
    with deployed.unpacked(version, store) as written:
        yield written


def _line(ended: Ended) -> str:
    mark = label("✓", "green") if ended.code == 0 else label("✗", "red")
    status = ended.outputs.get("status", "")
    facts = [{"go": "", "end": "", "skip": "nothing to do"}.get(status, status)]
    if ended.code != 0:
        facts.append(f"exit code {ended.code}")
    if ended.attempt > 1:
        facts.append(f"attempt {ended.attempt}")
    return f"  {mark} {ended.step:<16}  {', '.join(filter(None, facts))}".rstrip()
