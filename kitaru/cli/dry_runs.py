"""Decides how a dry run is gone on with by another command: where its build is, and its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.cli.attend import answer_waits, finish, interrupted
from kitaru.cli.execution import answer_command
from kitaru.cli.output import Output, label
from kitaru.cli.values import parse_value, wants_text
from kitaru.errors import AnswerInvalid, StateError
from kitaru.wire import canonical

if TYPE_CHECKING:
    from kitaru_targets.build import Build
    from kitaru_targets.dry_run import Ended, Report

    from kitaru.cli.changes import Asked
    from kitaru.client import KitaruClient
    from kitaru.runtime.journal import Journal
    from kitaru.stores import Store

SCHEMA = 1


def remember(store: Store, exec_id: str, build: Build, inputs: Mapping[str, Any]) -> None:
    """Note beside an execution's records which build it is a dry run of, and its inputs.

    A replay notes those of its source: the document that goes on with it asks for no inputs.
    """
    key = _key(exec_id)
    launch = {
        "schema": SCHEMA,
        "key": key,
        "directory": str(build.directory.resolve()),
        "inputs": dict(inputs),
    }
    store.create(key, canonical.dumps(launch))


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
    try:
        play(exec_id, url, _reporting(output))
        while client.executions.get(exec_id).status == "waiting":
            answered = _answer(client, exec_id, left, store)
            if not answered and not (asking and answer_waits(client, exec_id, output)):
                break
            play(exec_id, url, _reporting(output))
    except KeyboardInterrupt:
        return interrupted(exec_id, output, store)
    return finish(exec_id, client, output, store)


def begin_replay(asked: Asked, source: Journal, client: KitaruClient) -> str:
    """Begin the replay of a dry run, as a dry run of the same build; return its id.

    Raises StateError when this machine does not have the build, and what `Asked.replay` raises.
    """
    build, inputs = recall(source.store, source.exec_id)
    begun = asked.replay(client, source.exec_id)
    remember(source.store, begun.exec_id, build, {**inputs, **asked.changed_inputs(source)})
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
        value = parse_value(answers.pop(wait["name"]), is_text=wants_text(wait))
        try:
            client.executions.input(exec_id, value, wait=wait["name"])
        except AnswerInvalid as error:
            again = answer_command(exec_id, wait, store=store)
            raise AnswerInvalid(error.message, help=f"{error.help}\n{again}") from None
    return bool(known)


def play(exec_id: str, url: str, report: Report | None = None) -> None:
    """Execute what is left of a remembered dry run; `report` is told of each step that ends."""
    from kitaru_targets import dry_run

    from kitaru.stores import open_store

    opened = open_store(url)
    try:
        build, inputs = recall(opened, exec_id)
    finally:
        opened.close()

    told = {} if report is None else {"report": report}
    dry_run.run(build, inputs=inputs, answers={}, store_url=url, exec_id=exec_id, **told)


def _reporting(output: Output) -> Report:
    def report(ended: Ended) -> None:
        if not output.as_json:
            output.note(_line(ended))

    return report


def recall(store: Store, exec_id: str) -> tuple[Build, dict[str, Any]]:
    """Return the build that an execution is a dry run of, and the inputs it was given.

    Raises:
        StateError: this machine does not have the build, or it is no dry run.
    """
    from kitaru_targets import build

    data = store.get(_key(exec_id))
    launch = json.loads(data) if data is not None else {}
    if launch.get("schema") != SCHEMA:
        raise StateError(
            f"The execution {exec_id} does not run here.",
            help=f"Compile what is left: kitaru executions resume {exec_id} --target T",
        )
    return build.read(Path(launch["directory"])), launch["inputs"]


def _key(exec_id: str) -> str:
    return f"x/{exec_id}/launch"


def _line(ended: Ended) -> str:
    mark = label("✓", "green") if ended.code == 0 else label("✗", "red")
    status = ended.outputs.get("status", "")
    facts = [{"go": "", "end": "", "skip": "nothing to do"}.get(status, status)]
    if ended.code != 0:
        facts.append(f"exit code {ended.code}")
    if ended.attempt > 1:
        facts.append(f"attempt {ended.attempt}")
    return f"  {mark} {ended.step:<16}  {', '.join(filter(None, facts))}".rstrip()
