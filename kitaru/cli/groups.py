"""Command groups with complete summaries in the help, and suggestions for mistyped names."""

from __future__ import annotations

import click

from kitaru.errors import UsageError
from kitaru.wire.names import nearest

# Longer than any summary. Otherwise click shortens a summary with "..." to fit one line.
_WHOLE = 10_000


class Group(click.Group):
    """A group whose help shows the complete first sentence of each command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and args and args[0][:1] != "-" and args[0] not in known:
            near = nearest(args[0], known)
            remedy = " ".join(filter(None, [ctx.command_path, near, "--help"]))
            raise UsageError(f"There is no command {ctx.command_path} {args[0]}.", help=remedy)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, c.get_short_help_str(_WHOLE)) for name, c in listed if c and not c.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
