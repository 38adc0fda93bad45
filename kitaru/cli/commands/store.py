"""`kitaru store`: check, back up, restore, verify and clean up a store."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of, url_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted, label
from kitaru.cli.render.execution import moment
from kitaru.config import setting
from kitaru.errors import StoreUnsuitable

if TYPE_CHECKING:
    from kitaru.ops.backup import Copied


@click.group(cls=Group, short_help="Check, back up and verify a store; remove old executions.")
def store() -> None:
    """Check, back up, restore or verify a store, and remove old executions."""


@store.command()
@click.argument("url", required=False)
@options.store
@options.as_json
@options.pass_output
def check(output: Output, url: str | None, store: str | None) -> None:
    """Check that a store has the properties that durability needs, and measure its speed.

    Writes one small object and deletes it. Exit code 3 if a check fails, or if the file of the
    store is damaged.
    """
    from kitaru.ops.check_store import check_store
    from kitaru.stores import open_store

    found = setting("store", argument=url or store)
    opened = open_store(found.value)
    try:
        checks = check_store(opened)
    finally:
        opened.close()
    if output.as_json:
        listed = [{"name": c.name, "ok": True, "milliseconds": c.milliseconds} for c in checks]
        document = {"store": found.value, "origin": found.origin, "ok": True, "checks": listed}
        output.document(document)
        return
    output.say(f"{label('good', 'green')}  {found.value}  (from {found.origin})")
    output.table([(f"  {c.name}", f"{c.milliseconds} ms") for c in checks])


@store.command()
@click.argument("to", metavar="TO")
@options.store
@options.as_json
@options.pass_output
def backup(output: Output, to: str, store: str | None) -> None:
    """Copy the store to TO while executions run, and verify the copy.

    TO is sqlite:PATH of a new file, or a bucket. If a bucket contains an earlier backup of this
    store, only new objects are copied. To continue an interrupted backup, run the same command
    again.
    """
    from kitaru.ops.backup import backup

    _show_copied(output, "backed up", backup(reader_of(store).store, to))


@store.command()
@click.argument("source", metavar="FROM")
@click.option("--replace", is_flag=True, help="Rename an existing store file instead of failing.")
@options.store
@options.as_json
@options.pass_output
def restore(output: Output, source: str, replace: bool, store: str | None) -> None:
    """Restore the store from the backup FROM, and verify it.

    Nothing is overwritten: the store must be empty. --replace renames an existing store file.
    """
    from kitaru.ops.backup import restore

    _show_copied(output, "restored", restore(source, url_of(store), replace=replace))


@store.command()
@click.argument("url", required=False)
@options.store
@options.as_json
@options.pass_output
def verify(output: Output, url: str | None, store: str | None) -> None:
    """Read the whole store, and compare every object with its digest.

    Exit code 3 if an object is damaged, or if an object that another one refers to is missing.
    """
    from kitaru.ops.verify import verify

    opened = reader_of(url or store).store
    found = verify(opened)
    if output.as_json:
        output.document({"store": opened.url, "ok": not found.findings, **asdict(found)})
    else:
        for finding in found.findings:
            output.say(f"{label('damaged', 'red')}  {finding.key or opened.url}: {finding.what}")
        for note in found.notes:
            output.note(f"note     {note}")
        seen = f"{counted(found.objects, 'object')}, {found.bytes:,} bytes"
        if not found.findings:
            output.say(f"{label('good', 'green')}  {opened.url}  {seen}")
        else:
            output.say(f"{counted(len(found.findings), 'finding')} in {seen}")
    if found.findings:
        raise click.exceptions.Exit(StoreUnsuitable.exit_code)


def _show_copied(output: Output, what: str, copied: Copied) -> None:
    if output.as_json:
        output.document(asdict(copied))
        return
    new = "" if copied.new == copied.objects else f", {copied.new:,} of them new"
    size = f"{counted(copied.objects, 'object')}{new}, {copied.bytes:,} bytes"
    output.say(f"{label(what, 'green')}  {copied.url}  {size}")
    if copied.replaced:
        output.say(f"{label('aside', 'yellow')}  the files that were there: {copied.replaced}")


@store.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@options.store
@options.as_json
@options.pass_output
def upload(output: Output, directory: Path, store: str | None) -> None:
    """Upload the bundle of the build in DIR to a store. The steps of the build fetch it there."""
    from kitaru.ops.upload import upload
    from kitaru.stores import open_store

    opened = open_store(setting("store", argument=store).value)
    try:
        digest = upload(opened, directory)
    finally:
        opened.close()
    if output.as_json:
        output.document({"store": opened.url, "bundle": digest})
        return
    output.say(f"{label('there', 'green')}  {digest}  in {opened.url}")


@store.command()
@click.option(
    "--older-than", required=True, callback=options.age, metavar="AGE",
    help="Minimum time since an execution ended or failed, such as 90d, 12h or 30m.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@options.store
@options.as_json
@options.pass_output
def gc(output: Output, older_than: timedelta, dry_run: bool, store: str | None) -> None:
    """Remove executions that ended or failed long ago, with all their records.

    Running and waiting executions are kept, and so are the sources of replays that are kept.
    Results of removed executions leave the cache. Memory, bundles and uploaded inputs are kept.
    To continue after an interruption, run the command again.
    """
    removed = []
    for one in reader_of(store).executions.collect(older_than, dry_run=dry_run):
        removed.append(one)
        if not output.as_json:
            started = moment(one.started_at)
            output.say(f"{started}  {one.exec_id}  {one.flow}  {one.status}", hang=4)
    if output.as_json:
        items = [asdict(one) for one in removed]
        output.document({"items": items, "count": len(items), "dry_run": dry_run})
        return
    objects = sum(one.objects for one in removed)
    what = "to remove" if dry_run else "removed"
    executions = counted(len(removed), "execution")
    output.say(f"{executions} {what}, {counted(objects, 'object')}")
