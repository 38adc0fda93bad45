"""Rewrite a program of another engine as Kitaru flows."""

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
    """A migrated file: its text before and after, and the lines that need manual work."""

    file: SourceFile
    text: str
    marks: tuple[Mark, ...]

    @property
    def diff(self) -> str:
        """The changes in the format of `diff -u`."""
        return self.file.diff(self.text)


def migrate(library: Library, path: Path, *, diff: bool = False) -> Migration:
    """Rewrite a file in place. Nothing is imported or run.

    Code without a certain equivalent is kept, below a comment `# MIGRATE: ...`.

    Args:
        library: the library of the program, such as `temporal`.
        diff: write nothing, and return the changes only; default False.

    Raises:
        SourceError: the file is not valid Python.
        UsageError: the file does not exist, contains no flow of the library, or its flow requires
            an event loop.
        StateError: the file was changed meanwhile; it is not modified.
        EnvironmentFailure: the file cannot be written.

    Example:
        for mark in migrate("temporal", Path("review.py"), diff=True).marks:
            print(mark.line, mark.text)
    """
    from kitaru_compiler.frontend.source import read
    from kitaru_compiler.migrations import migrate as rewrite
    from kitaru_compiler.migrations.rewriter import NotMigratable

    # Apply the compiler's limits before libcst parses the text.
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
