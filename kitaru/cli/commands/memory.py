"""`kitaru memory`: read, write, list, compact and purge the memory of flows."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted, part, show_more
from kitaru.cli.render.execution import moment, text_of
from kitaru.config import named_stack, setting
from kitaru.errors import NotFound
from kitaru.runtime.engine.questions import parse_value
from kitaru.wire.names import suggestion

if TYPE_CHECKING:
    from kitaru.memory import Memories, Version

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group, short_help="Read, write, list and purge the memory of flows.")
def memory() -> None:
    """Read and write the memory of flows: values by key, in numbered versions."""


def _memories(store: str | None) -> Memories:
    from kitaru.client import KitaruClient

    return KitaruClient(str(setting("store", argument=store).value)).memory


def _common(function: F) -> F:
    """Add `--scope`, `--store` and `--json`."""
    scope = click.option(
        "--scope", metavar="SCOPE",
        help="namespace:NAME, flow:NAME or execution:ID. Default: the setting memory_scope.",
    )  # fmt: skip
    return scope(options.store(options.as_json(function)))


_key = click.argument("key", metavar="KEY")
_expect = click.option(
    "--expect", type=click.IntRange(min=0), metavar="VERSION",
    help="Fail unless this is the newest version. 0: fail if there is a value.",
)  # fmt: skip


def _moment(context: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """Parse a time such as `2026-11-01`, `2026-11-01T12:30+01:00` or `2h`. A click callback."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.now(UTC) - options.age(context, option, text.removesuffix(" ago"))
    except click.BadParameter:
        raise click.BadParameter(
            f"{text!r} is not a time such as 2026-11-01, 2026-11-01T12:30 or 2h (two hours ago)"
        ) from None


@memory.command()
@_key
@click.option(
    "--version", type=click.IntRange(min=1), help="Number of the version. Default: the newest."
)
@click.option(
    "--at",
    callback=_moment,
    metavar="TIME",
    help="Show the value at this time: 2026-11-01T12:30 (local time unless a zone is set), or 2h "
    "for two hours ago.",
)
@_common
@options.pass_output
def get(
    output: Output, key: str, version: int | None, at: datetime | None, scope: str | None,
    store: str | None,
) -> None:  # fmt: skip
    """Show the value of a key."""
    found = reader_of(store).memory.show(key, version=version, at=at, scope=scope)
    if found is None:
        then = "" if version is None else f" in version {version}"
        then = then if at is None else f" at {at.isoformat(timespec='seconds')}"
        history = shlex.join(["kitaru", "memory", "history", key, *_same_place(scope, store)])
        keys = reader_of(store).memory.list(scope=scope)
        help = history if key in keys else suggestion(key, keys, history)
        raise NotFound(f"{key} has no value{then}.", help=help)
    if output.as_json:
        output.document(found)
    else:
        output.answer(text_of(found["value"]))


@memory.command("set")
@_key
@click.argument("value", metavar="VALUE")
@_expect
@_common
@options.pass_output
def set_value(
    output: Output, key: str, value: str, expect: int | None, scope: str | None, store: str | None
) -> None:
    """Write a value: JSON if it parses, otherwise a string."""
    version = _memories(store).set(key, parse_value(value), expect=expect, scope=scope)
    _say(output, {"key": key, "version": version}, f"{key} has version {version}")


@memory.command("list")
@click.argument("prefix", metavar="[PREFIX]", default="")
@options.page
@_common
@options.pass_output
def list_keys(
    output: Output, prefix: str, limit: int | None, skip: int, scope: str | None, store: str | None
) -> None:
    """List the keys that have a value."""
    some = part(reader_of(store).memory.list(prefix, scope=scope), output, limit, skip)
    if output.as_json:
        output.document(some.document(some.items))
        return
    for key in some.items or ["no keys"]:
        output.say(key)
    show_more(output, some)


@memory.command()
@_key
@click.option("--limit", type=click.IntRange(min=1), help="Show only the last N versions.")
@_common
@options.pass_output
def history(
    output: Output, key: str, limit: int | None, scope: str | None, store: str | None
) -> None:
    """List the versions of a key, oldest first: time, size, and the operation that wrote it."""
    versions = reader_of(store).memory.history(key, limit=limit, scope=scope)
    if output.as_json:
        output.document({"items": [asdict(v) for v in versions], "count": len(versions)})
        return
    output.table([_row(version) for version in versions], empty="no versions")


@memory.command()
@_key
@_expect
@_common
@options.pass_output
def delete(
    output: Output, key: str, expect: int | None, scope: str | None, store: str | None
) -> None:
    """Delete a key's value. Earlier versions can still be read by number."""
    deleted = _memories(store).delete(key, expect=expect, scope=scope)
    text = f"{key} is deleted" if deleted else f"{key} had no value"
    _say(output, {"key": key, "deleted": deleted}, text)


@memory.command()
@_key
@_common
@options.pass_output
def purge(output: Output, key: str, scope: str | None, store: str | None) -> None:
    """Erase a key and all its versions permanently.

    Values that executions have read stay in their records.
    """
    count = _memories(store).purge(key, scope=scope)
    _say(output, {"key": key, "versions": count}, f"{key} is erased, {counted(count, 'version')}")


@memory.group("scope", cls=Group, short_help="List the scopes that have a memory.")
def scope_group() -> None:
    """List scopes: namespace:NAME, flow:NAME, execution:ID."""


@scope_group.command("list")
@options.store
@options.as_json
@options.pass_output
def list_scopes(output: Output, store: str | None) -> None:
    """List the namespaces and flows that have a memory, with their number of keys.

    The memory of an execution is not listed. Select it with --scope execution:ID.
    """
    found = _memories(store).scopes()
    if output.as_json:
        output.document({"items": found, "count": len(found)})
        return
    rows = [
        (one["scope"], counted(one["keys"], "key"), one["written_at"] and moment(one["written_at"]))
        for one in found
    ]
    output.table(rows, empty="no memory in this store")


@memory.command()
@click.argument("key", metavar="[KEY]", required=False)
@click.option("--prefix", help="Instead of KEY: all keys with this prefix.")
@click.option("--into", metavar="KEY", help="Key to write the text to. Default: KEY.")
@click.option("--model", help="Model or alias. Default: the default model.")
@click.option("--instruction", help="Instruction for the model.")
@_common
@options.pass_output
def compact(
    output: Output, key: str | None, prefix: str | None, into: str | None, model: str | None,
    instruction: str | None, scope: str | None, store: str | None,
) -> None:  # fmt: skip
    """Merge the versions of a key, or all keys with a prefix, into one text. A model does it."""
    told = {} if instruction is None else {"instruction": instruction}
    memories = _memories(store)
    version = memories.compact(key, prefix=prefix, into=into, model=model, scope=scope, **told)
    target = into or key or ""
    (newest,) = memories.history(target, limit=1, scope=scope)
    text = f"{target} has version {version}, made of {len(newest.compacted['sources'])} notes"
    _say(output, {"key": target, "version": version, **newest.compacted}, text)


def _same_place(scope: str | None, store: str | None) -> list[str]:
    named = {"--scope": scope, "--store": store, "--stack": named_stack()}
    return [word for option, text in named.items() if text for word in (option, text)]


def _say(output: Output, document: dict[str, Any], text: str) -> None:
    if output.as_json:
        output.document(document)
    else:
        output.say(text)


def _row(version: Version) -> tuple[str, ...]:
    what = "deleted" if version.deleted else f"{version.type}, {version.size} bytes"
    compacted = f"of {len(version.compacted['sources'])} notes" if version.compacted else ""
    return str(version.version), moment(version.written_at), what, version.operation, compacted
