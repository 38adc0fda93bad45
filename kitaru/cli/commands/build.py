"""`kitaru build`: build and push the container image of a build."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from kitaru.cli import options
from kitaru.cli.output import Output, label
from kitaru.ops.build_image import PLATFORM, Builder, build_image


@click.command(short_help="Build and push the container image of a build.")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--image", metavar="REF",
    help="Name of the image, with a tag. Default: that of the compilation.",
)  # fmt: skip
@click.option(
    "--builder", type=click.Choice(get_args(Builder)),
    help="Program that builds. Default: the first that works here.",
)  # fmt: skip
@click.option(
    "--platform", default=PLATFORM, show_default=True, help="Platform of the nodes that run it."
)
@click.option("--push/--no-push", default=True, show_default=True, help="Push it to the registry.")
@options.as_json
@options.pass_output
def build(
    output: Output, directory: Path, image: str | None, builder: str | None, platform: str,
    push: bool,
) -> None:  # fmt: skip
    """Build the image of a build in DIR from its Dockerfile, and push it.

    docker, podman and buildah build on this machine. gcloud builds images of *-docker.pkg.dev in
    Cloud Build, and az those of *.azurecr.io in its registry. Compile again with the digest that
    the command prints: a tag can move.
    """
    built = build_image(
        directory, image=image, builder=builder, platform=platform, push=push,
        report=lambda line: output.note(line),
    )  # fmt: skip
    if output.as_json:
        output.document(
            {
                "image": built.image,
                "digest": built.digest,
                "pinned": built.pinned,
                "builder": built.builder,
                "pushed": built.is_pushed,
            }
        )
        return
    done = "pushed" if built.is_pushed else "built"
    output.say(f"{label(done, 'green')}  {built.pinned}")
    if built.digest:
        output.say(f"compile with it: --delivery image --image {built.pinned}")
