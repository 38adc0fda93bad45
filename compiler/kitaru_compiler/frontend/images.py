"""Find images that a flow or its project refers to only by tag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kitaru.toml_files import project_file
from kitaru.wire import disk
from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.targets import IMAGE_WITHOUT_DIGEST
from kitaru_compiler.frontend.flows import FlowDefinition
from kitaru_compiler.frontend.project import Project


def about_images(
    flow: FlowDefinition, image: str, project: Project, settings: dict[str, Any]
) -> tuple[list[Diagnostic], dict[str, str]]:
    """Return a finding for each image without a digest, and the text of the file that sets it.

    `image` is the image in the decorator, empty for none. It takes precedence over the project's
    image.
    """
    option = next((one.value for one in flow.options if one.arg == "image"), flow.definition)
    named = [(image, flow.source.span(option))] if image else []
    texts: dict[str, str] = {}
    path = project_file(project.root)
    for name in ("image", "base_image"):
        value = settings.get(name)
        if not isinstance(value, str) or (name == "image" and image) or path is None:
            continue
        text = disk.read_text(path, "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if line.split("=", 1)[0].strip() == name and value in line:
                named.append((value, Span(path.name, number, 1, number, len(line) + 1)))
                texts[path.name] = text
                break
    return list(_without_digest(named)), texts


def _without_digest(named: list[tuple[str, Span]]) -> Iterator[Diagnostic]:
    for image, span in named:
        if "@sha256:" not in image:
            yield Diagnostic(
                IMAGE_WITHOUT_DIGEST,
                span,
                f"`{image}` is named by a tag, which can move to another image",
                help=f"write {image}@sha256:…, with the digest that"
                f" `docker buildx imagetools inspect {image}` prints",
            )
