"""Rewrite programs of other engines as Kitaru flows.

A migration rewrites code with an equivalent and marks all other code with a comment, `# MIGRATE:
…`. Every statement that still mentions the other library is marked, so no incomplete migration goes
unnoticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from kitaru.wire.migrations import Library
from kitaru_compiler.migrations.rewriter import MARK, Rewriter


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the result that needs manual work, and the decision to make."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Migrated:
    """The rewritten text, and the marks in it."""

    text: str
    marks: tuple[Mark, ...]


def rewriter_of(library: Library) -> type[Rewriter]:
    """Return the rewriter for programs of a library."""
    from kitaru_compiler.migrations.dbos import Dbos
    from kitaru_compiler.migrations.inngest import Inngest
    from kitaru_compiler.migrations.prefect import Prefect
    from kitaru_compiler.migrations.temporal import Temporal
    from kitaru_compiler.migrations.zenml import Zenml

    found: dict[str, type[Rewriter]] = {
        "dbos": Dbos,
        "inngest": Inngest,
        "prefect": Prefect,
        "temporal": Temporal,
        "zenml": Zenml,
    }
    assert set(found) == set(get_args(Library))
    return found[library]


def migrate(library: Library, text: str) -> Migrated:
    """Rewrite a program of `library` as Kitaru flows.

    Raises:
        NotMigratable: the program has no flow, or a flow that requires `async`.
    """
    made = rewriter_of(library)(text).migrated()
    marks = [
        Mark(number, found[1])
        for number, line in enumerate(made.split("\n"), 1)
        if (found := re.match(rf"\s*{MARK} (.*)", line))
    ]
    return Migrated(made, tuple(marks))
