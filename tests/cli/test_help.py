"""The help of every command, at several widths of a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from kitaru.cli.app import cli
from kitaru.cli.groups import Group
from kitaru.errors import UsageError


def every(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join([*words, name]), command
        if isinstance(command, click.Group):
            yield from every(command, (*words, name))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_help_is_cut_off(width: int) -> None:
    for path, command in [("", cli), *every(cli)]:
        context = click.Context(
            command, info_name=f"kitaru {path}", terminal_width=width, max_content_width=width
        )
        _, _, described = command.get_help(context).partition("\n\n")
        for line in described.splitlines():
            assert not line.rstrip().endswith("..."), (path, line)


def test_every_group_suggests_a_command() -> None:
    groups = [(path, group) for path, group in every(cli) if isinstance(group, click.Group)]
    assert groups
    for path, group in groups:
        assert isinstance(group, Group), path
        name = group.list_commands(click.Context(group))[0]
        context = click.Context(group, info_name=f"kitaru {path}")
        with pytest.raises(UsageError) as raised:
            group.resolve_command(context, [name[:-1] + "x" if len(name) > 3 else name + "x"])
        assert raised.value.help.startswith(f"kitaru {path}"), path
