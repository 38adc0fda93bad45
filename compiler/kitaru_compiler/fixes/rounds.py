"""Apply fixes in rounds, and keep only those that a new check confirms.

A fix may make another fix possible, so fixes are applied in rounds. After each round the project is
checked with the changed texts, before anything is written. If the findings have not disappeared, or
new ones have appeared, the fixes of the round are tried one by one.
"""

from __future__ import annotations

import io
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kitaru_compiler.compile import Checked, check
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.fixes.catalogue import FIXES
from kitaru_compiler.fixes.module import Edits, Module, Unreadable
from kitaru_compiler.frontend.source import read_text

MOST_ROUNDS = 100
_ABOUT_COMMENTS = ("KIT109", "KIT110")
Findings = tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class Fixes:
    """The result of fixing.

    `texts` are the changed texts and `originals` the earlier ones, by path. `findings`, `sources`
    and `data` are the result of the final check.
    """

    texts: dict[Path, str]
    originals: dict[Path, str]
    applied: Findings
    findings: Findings
    sources: dict[str, str]
    data: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Candidate:
    finding: Diagnostic
    path: Path
    module: Module
    edits: Edits


class Fixing:
    """Fixes the findings of one file's flows.

    `base` is the folder to which file names in findings are relative. `unsaved` contains texts that
    replace those of files, such as an editor's.

    Example:
        fixes = Fixing(path, None, "", base_of(path), unsafe=False).run()
    """

    def __init__(
        self,
        path: Path,
        flow: str | None,
        module: str,
        base: Path,
        *,
        unsafe: bool,
        unsaved: Mapping[Path, str] | None = None,
    ) -> None:
        self._asked = (path, flow, module)
        self._base = base
        self._unsafe = unsafe
        self._originals: dict[Path, str] = {}
        self._unsaved = dict(unsaved or {})

    def run(self) -> Fixes:
        """Return the result of all fixes; nothing is written."""
        texts = dict(self._unsaved)
        applied: list[Diagnostic] = []
        found = self._check(texts)
        for _ in range(MOST_ROUNDS):
            candidates = list(self._candidates(found.findings, texts))
            for chosen in self._choices(candidates):
                changed = texts | _edited(chosen)
                after = self._check(changed)
                better = _is_better(found.findings, after.findings, chosen)
                if better and self._keeps_comments(changed, chosen):
                    texts, found = changed, after
                    applied += [candidate.finding for candidate in chosen]
                    break
            else:
                break
        of_check = (found.findings, found.sources, found.data)
        return Fixes(texts, self._originals, tuple(applied), *of_check)

    def on_line(self, line: int) -> Iterator[tuple[Diagnostic, Path, str]]:
        """Yield each finding of the file on a line that has a fix, with the text after the fix."""
        asked, texts = self._asked[0], dict(self._unsaved)
        findings = self._check(texts).findings
        here = [f for f in findings if self._base / f.span.file == asked and f.span.line == line]
        for candidate in self._candidates(tuple(here), texts):
            changed = texts | _edited([candidate])
            after = self._check(changed).findings
            chosen = [candidate]
            if _is_better(findings, after, chosen) and self._keeps_comments(changed, chosen):
                yield candidate.finding, candidate.path, changed[candidate.path]

    def _check(self, texts: dict[Path, str]) -> Checked:
        return check(*self._asked, unsaved=texts)

    def _candidates(self, findings: Findings, texts: dict[Path, str]) -> Iterator[_Candidate]:
        modules: dict[str, Module | None] = {}
        for finding in findings:
            fix, file = finding.rule.fix, finding.span.file
            if fix is None or finding.silenced or not (fix.is_safe or self._unsafe):
                continue
            path = self._base / file
            if not file.endswith(".py") or not is_own(path, self._base):
                continue
            if file not in modules:
                # The sources of a check have masked secrets.
                if path not in self._originals and path not in texts:
                    self._originals[path] = read_text(path, file)
                modules[file] = _opened(texts[path] if path in texts else self._originals[path])
            module = modules[file]
            edits = FIXES[finding.code](module, finding) if module else None
            if module and edits:
                yield _Candidate(finding, path, module, edits)

    def _keeps_comments(self, changed: dict[Path, str], chosen: list[_Candidate]) -> bool:
        """Return whether all comments are preserved, except those that the fixes concern."""
        for candidate in chosen:
            meant = {
                other.finding.span.line
                for other in chosen
                if other.path == candidate.path and other.finding.code in _ABOUT_COMMENTS
            }
            before = comments(candidate.module.text)
            kept = Counter(text for line, text in before if line not in meant)
            after = Counter(text for _, text in comments(changed[candidate.path]))
            if kept - after:
                return False
        return True

    def _choices(self, candidates: list[_Candidate]) -> Iterator[list[_Candidate]]:
        """Yield the sets of fixes to try: all that do not overlap, then each alone."""
        together: list[_Candidate] = []
        for candidate in candidates:
            same = [c for c in together if c.path == candidate.path]
            if not any(candidate.edits.overlaps(other.edits) for other in same):
                together.append(candidate)
        if together:
            yield together
        if len(candidates) > 1:
            yield from ([candidate] for candidate in candidates)


def is_own(path: Path, base: Path) -> bool:
    """Return whether a file belongs to the project: in its folder, but not installed there."""
    if not path.resolve().is_relative_to(base.resolve()):
        return False
    between = [p for p in path.parents if p.is_relative_to(base)]
    return not any((folder / "pyvenv.cfg").is_file() for folder in between)


def comments(text: str) -> list[tuple[int, str]]:
    """Return the comments of a text, each with its line."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]


def _opened(text: str) -> Module | None:
    try:
        return Module(text)
    except Unreadable:
        return None


def _edited(chosen: Iterable[_Candidate]) -> dict[Path, str]:
    modules = {candidate.path: candidate.module for candidate in chosen}
    texts = {}
    for path, module in modules.items():
        edits = Edits()
        for candidate in chosen:
            if candidate.path == path:
                edits.add(candidate.edits)
        texts[path] = module.edited(edits)
    return texts


def _is_better(before: Findings, after: Findings, chosen: list[_Candidate]) -> bool:
    """Return whether the chosen findings have disappeared and no new ones have appeared.

    After an error the check is incomplete, so new warnings and notes may appear when the error
    disappears.
    """
    fixed = Counter(candidate.finding.code for candidate in chosen)
    had, has = _counted(before), _counted(after)
    if any(has[code] > had[code] - number for code, number in fixed.items()):
        return False
    complete = not any(finding.severity == "error" for finding in before)
    watched = ("error", "warning") if complete else ("error",)
    return all(
        has[finding.code] <= had[finding.code]
        for finding in after
        if finding.severity in watched and not finding.silenced
    )


def _counted(findings: Findings) -> Counter[str]:
    return Counter(finding.code for finding in findings if not finding.silenced)
