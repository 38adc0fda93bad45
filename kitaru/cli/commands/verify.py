"""`kitaru verify`: check that a build is unchanged since it was compiled."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import completion, options
from kitaru.cli.output import Output, label
from kitaru.errors import FlowError, UsageError
from kitaru.ops.verify_build import verify_build

EPILOG = f"""{options.FLOW_HELP} Exit codes: 0 the build is unchanged; 1 it was changed, the source
has errors, or the SDK does not accept the document; 2 there is no build in DIR, or it cannot be
compared with the source."""


@click.command(short_help="Check that a build is unchanged since it was compiled.", epilog=EPILOG)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--source", metavar="FLOW", shell_complete=completion.flows,
    help="Compile this flow again, and compare every file of the build with the result.",
)  # fmt: skip
@click.option("--image", metavar="REF", help="With --source: the image passed to `compile`.")
@click.option(
    "--sbom",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a bill of materials of the build to FILE, in CycloneDX; needs the extra sbom.",
)
@click.option(
    "--with-sdk", is_flag=True, help="Ask the vendor's own SDK about the document, if installed."
)
@options.store
@options.as_json
@options.pass_output
def verify(
    output: Output, directory: Path, source: str | None, image: str | None, sbom: Path | None,
    with_sdk: bool, store: str | None,
) -> None:  # fmt: skip
    """Check the digest of every file of the build in DIR, and look for extra files.

    The digests are in lock.json, which is not signed. An attacker who rewrites it as well is
    noticed only with --source, which takes image and store from the project's settings or from the
    options, never from lock.json.

    With --with-sdk, the vendor's parser or validator reads the document, if it is installed: kfp,
    google-cloud-aiplatform, botocore, azure-ai-ml, apache-airflow, hera, kubernetes-validate or
    statelint. Nothing is sent.

    A container image that is named by a tag gets a warning: the tag may move. So does what a
    container installs without a hash.
    """
    if source is None and (image or store):
        raise UsageError("--image and --store are compared only with --source FLOW.")
    found = verify_build(directory, source=source, image=image, store=store, with_sdk=with_sdk)
    if found.problems:
        raise FlowError(
            f"{directory} was changed after it was compiled: {'; '.join(found.problems)}"
            if source is None
            else f"{directory} is not the build of {source}: {'; '.join(found.problems)}",
            help="Find out what changed it, and compile again: kitaru compile FLOW --target T",
        )
    sdk = found.sdk
    if sdk is not None and sdk.problems:
        raise FlowError(
            f"{sdk.package} {sdk.version} does not accept {directory}: {'; '.join(sdk.problems)}",
            help="Remove the project's override that it does not accept."
            if found.overrides
            else "This is a defect of Kitaru, or of that version: please report both versions.",
        )
    if sbom is not None:
        from kitaru_targets.sbom import write_sbom

        write_sbom(directory, sbom)
    if output.as_json:
        checked = {"directory": str(directory), "ok": True, "files": list(found.files)}
        document = {**checked, "digest": found.digest, "warnings": list(found.warnings)}
        said = sdk and {"package": sdk.package, "version": sdk.version or None}
        document["overrides"] = list(found.overrides)
        output.document({**document, "source": source, "sdk": said})
        return
    output.say(f"{label('good', 'green')}  {len(found.files)} files  {found.digest}")
    if source is not None:
        output.say(f"{label('good', 'green')}  every file is what {source} compiles to")
    if sdk is not None and sdk.version:
        output.say(f"{label('good', 'green')}  {sdk.package} {sdk.version} accepts the document")
    elif sdk is not None:
        output.note(
            f"{label('warning', 'yellow')}: {sdk.package} was not asked, because it is not "
            f"installed here: pip install {sdk.package}", hang=9,
        )  # fmt: skip
    for override in found.overrides:
        output.say(f"{label('note', 'yellow')}  overridden by the project: {override}")
    for warning in found.warnings:
        output.note(f"{label('warning', 'yellow')}: {warning}", hang=9)
