"""Rewrite a program of another engine as flows of Kitaru."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.errors import UsageError
from kitaru.ops.source_files import SourceFile, read_source
from kitaru.wire.migrations import Library

if TYPE_CHECKING:
    from kitaru_compiler.migrations import Mark


@dataclass(frozen=True, slots=True)
class Migration:
    """A migrated file: its text before and after, and the lines that need a person."""

    file: SourceFile
    text: str
    marks: tuple[Mark, ...]

    @property
    def diff(self) -> str:
        """The changes, as `diff -u` writes them."""
        return self.file.diff(self.text)


def migrate(library: Library, path: Path, *, diff: bool = False) -> Migration:
    """Rewrite a file in place. Nothing is imported or run.

    What has no equivalent that is certain stays, below a comment `# MIGRATE: ...`.

    Args:
        library: whose program it is, such as `temporal`.
        diff: write nothing, and return what would change; default False.

    Raises:
        SourceError: the file is not Python.
        UsageError: there is no such file, it has no flow of the library, or its flow cannot be
            written without an event loop.
        StateError: the file was changed meanwhile; it is left as it is.
        EnvironmentFailure: the file cannot be written.

    Example:
        for mark in migrate("temporal", Path("review.py"), diff=True).marks:
            print(mark.line, mark.text)
    """
    from kitaru_compiler.frontend.source import read
    from kitaru_compiler.migrations import migrate as rewrite
    from kitaru_compiler.migrations.rewriter import NotMigratable

    # The limits of the compiler hold before libcst reads the text.
    source = read(path, path.stem, path.name)
    file = read_source(path)
    try:
        made = rewrite(library, source.text)
    except NotMigratable as error:
        help = f"kitaru migrate --help; the file was left as it is: {path}"
        raise UsageError(f"The file {path} cannot be migrated: {error}.", help=help) from None
    if not diff:
        file.write(made.text)
    return Migration(file, made.text, made.marks)
