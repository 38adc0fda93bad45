"""Find codecs that an import of their module does not register."""

from __future__ import annotations

from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.primitives import CODEC_REGISTERED_LATE
from kitaru_compiler.frontend.codecs import registrations
from kitaru_compiler.frontend.project import Project


def late_codecs(project: Project, module: str) -> Iterator[Diagnostic]:
    """Yield one finding for each call of `register_codec` in a function or in a branch."""
    for source in project.closure(module).sources.values():
        for one in registrations(source):
            if one.inside:
                message = (
                    f"this codec is registered in {one.inside}, so a step that imports "
                    f"`{source.module}` does not have it"
                )
                help = "register it at the top level of the module"
                yield Diagnostic(CODEC_REGISTERED_LATE, source.span(one.call), message, help=help)
