"""`kitaru verify`: check that a build is unchanged since it was compiled."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import options
from kitaru.cli.output import Output, label
from kitaru.errors import FlowError

EPILOG = "Exit codes: 0 the build is unchanged; 1 it was changed; 2 there is no build in DIR."


@click.command(short_help="Check that a build is unchanged since it was compiled.", epilog=EPILOG)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--sbom",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a bill of materials of the build to FILE, in CycloneDX; needs the extra sbom.",
)
@options.as_json
@options.pass_output
def verify(output: Output, directory: Path, sbom: Path | None) -> None:
    """Check the digest of every file of the build in DIR, and look for extra files.

    A container image that is named by a tag gets a warning: the tag may move. So does what a
    container installs without a hash.
    """
    from kitaru_targets.verification import verify

    found = verify(directory)
    if found.problems:
        raise FlowError(
            f"{directory} was changed after it was compiled: {'; '.join(found.problems)}",
            help="Find out what changed it, and compile again: kitaru compile FLOW --target T",
        )
    if sbom is not None:
        from kitaru_targets.sbom import write_sbom

        write_sbom(directory, sbom)
    if output.as_json:
        checked = {"directory": str(directory), "ok": True, "files": list(found.files)}
        output.document({**checked, "digest": found.digest, "warnings": list(found.warnings)})
        return
    output.say(f"{label('good', 'green')}  {len(found.files)} files  {found.digest}")
    for warning in found.warnings:
        output.note(f"{label('warning', 'yellow')}: {warning}", hang=9)
