"""Fix the findings of a check, if the fix is certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitaru.errors import StateError
from kitaru.ops.check import Checked
from kitaru.ops.flow_ref import Location
from kitaru.ops.source_files import SourceFile, read_source

if TYPE_CHECKING:
    from pathlib import Path

    from kitaru_compiler.diagnostics.model import Diagnostic


@dataclass(frozen=True, slots=True)
class Fixed:
    """The result of a fix.

    `applied` are the fixed findings, `checked` is the result of a new check, and `changes` contains
    the new text of each changed file.
    """

    checked: Checked
    applied: tuple[Diagnostic, ...]
    changes: tuple[tuple[SourceFile, str], ...]

    @property
    def diff(self) -> str:
        """All changes in the format of `diff -u`."""
        return "".join(file.diff(text) for file, text in self.changes)


def fix(location: Location, *, unsafe_fixes: bool = False, diff: bool = False) -> Fixed:
    """Fix the findings of a check in a flow, or in all flows of a file.

    Formatting, comments, encoding and permissions of a file are kept. A fix is applied only if a
    new check no longer has the finding. Files outside the project are not changed.

    Args:
        unsafe_fixes: also apply fixes that may change the meaning of the code; default False.
        diff: write nothing, and return the changes only; default False.

    Raises:
        SourceError: the file is not valid Python, or does not contain the flow.
        StateError: a file was changed meanwhile; it is not modified.
        EnvironmentFailure: a file cannot be written.

    Example:
        print(fix(locate("review.py"), diff=True).diff)
    """
    from kitaru_compiler.fixes.rounds import Fixing
    from kitaru_compiler.frontend.project import base_of

    from kitaru.ops.findings import from_here

    base = base_of(location.path, location.module)
    asked = (location.path, location.flow, location.module)
    fixes = Fixing(*asked, base, unsafe=unsafe_fixes).run()
    changes = [(read_source(path), text) for path, text in sorted(fixes.texts.items())]
    for file, _ in changes:
        _check_as_read(file, fixes.originals)
    if not diff:
        for file, _ in changes:
            file.check_unchanged()
        for file, text in changes:
            file.write(text)
    findings, sources = from_here(fixes.findings, fixes.sources, base)
    applied, _ = from_here(fixes.applied, {}, base)
    checked = Checked(location, findings, sources, fixes.data)
    return Fixed(checked, applied, tuple(changes))


def _check_as_read(file: SourceFile, originals: dict[Path, str]) -> None:
    if originals[file.path] != file.text:
        raise StateError(
            f"The file {file.path} was changed meanwhile; nothing was written.",
            help="Run the command again.",
        )
