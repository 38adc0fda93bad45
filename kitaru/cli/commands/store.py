"""Decides what `kitaru store` says."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.cli.output import Output, counted, label, table
from kitaru.config import setting
from kitaru.errors import StoreUnsuitable

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def _age(context: click.Context, option: click.Parameter, value: str) -> timedelta:
    """Return the length of time that people write as `90d`, `12h` or `30m`."""
    number, unit = value[:-1], value[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        raise click.BadParameter(f"{value!r} is no number of days, hours or minutes, such as 90d")
    return timedelta(**{_UNITS[unit]: int(number)})


if TYPE_CHECKING:
    from kitaru.stores.base import Store


@click.group(short_help="Check a store, put a bundle into it, remove what is old.")
def store() -> None:
    """Where executions are kept."""


@store.command()
@click.argument("url", required=False)
@options.store
@options.as_json
@options.pass_output
def check(output: Output, url: str | None, store: str | None) -> None:
    """Check that a store keeps the promises that durability rests on, and how fast it is.

    Ends with 3 when it does not. Writes one small object and deletes it.
    """
    from kitaru.stores import open_store

    found = setting("store", argument=url or store)
    opened = open_store(found.value)
    try:
        checks = _checks(opened)
    finally:
        opened.close()
    if output.as_json:
        output.document(
            {"store": found.value, "origin": found.origin, "ok": True, "checks": checks}
        )
        return
    output.say(f"{label('good', 'green')}  {found.value}  (from {found.origin})")
    for line in table([(f"  {c['name']}", f"{c['milliseconds']} ms") for c in checks]):
        output.say(line)


@store.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@options.store
@options.as_json
@options.pass_output
def upload(output: Output, directory: Path, store: str | None) -> None:
    """Put the bundle of the build in DIR into a store, from where its steps fetch it."""
    from kitaru_targets import build
    from kitaru_targets.upload import upload

    from kitaru.stores import open_store

    written = build.read(directory)
    opened = open_store(setting("store", argument=store).value)
    try:
        upload(written, opened)
    finally:
        opened.close()
    if output.as_json:
        output.document({"store": opened.url, "bundle": written.bundle_digest})
        return
    output.say(f"{label('there', 'green')}  {written.bundle_digest}  in {opened.url}")


@store.command()
@click.option(
    "--older-than", required=True, callback=_age, metavar="AGE",
    help="How long ago an execution ended or failed, such as 90d, 12h or 30m.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@options.store
@options.as_json
@options.pass_output
def gc(output: Output, older_than: timedelta, dry_run: bool, store: str | None) -> None:
    """Remove whole executions that ended or failed long ago.

    Those that run or wait stay, and those that replays which stay were made from. It may be
    interrupted: run it again. Their results leave the cache with them. Memory, bundles and
    given inputs stay.
    """
    removed = []
    for one in client_of(store).executions.collect(older_than, dry_run=dry_run):
        removed.append(one)
        if not output.as_json:
            output.say(f"{one.started_at[:10]}  {one.exec_id}  {one.flow}  {one.status}")
    if output.as_json:
        items = [asdict(one) for one in removed]
        output.document({"items": items, "count": len(items), "dry_run": dry_run})
        return
    objects = sum(one.objects for one in removed)
    what = "to remove" if dry_run else "removed"
    executions = counted(len(removed), "execution")
    output.say(f"{executions} {what}, {counted(objects, 'object')}")


def _checks(store: Store) -> list[dict[str, Any]]:
    key = f"probe/{secrets.token_hex(8)}"
    value, other = secrets.token_bytes(64), secrets.token_bytes(64)
    promises: list[tuple[str, Callable[[], bool]]] = [
        ("an absent object is absent", lambda: store.get(key) is None),
        ("a create creates", lambda: store.create(key, value)),
        ("a second create is refused", lambda: not store.create(key, other)),
        ("the first bytes stay", lambda: store.get(key) == value),
        ("a list finds it", lambda: store.list(key) == [key]),
    ]
    try:
        return [_checked(store, name, promise) for name, promise in promises]
    finally:
        store.delete(key)


def _checked(store: Store, name: str, promise: Callable[[], bool]) -> dict[str, Any]:
    start = time.perf_counter()
    kept = promise()
    milliseconds = round((time.perf_counter() - start) * 1000, 2)
    if not kept:
        raise StoreUnsuitable(f"{store.url} does not keep a promise: {name}")
    return {"name": name, "ok": True, "milliseconds": milliseconds}
