"""Select the files of a project for the bundle of its steps, and explain each decision.

The bundle contains the modules that the flow imports, the files that code refers to by path (see
`files`), the data files inside imported packages, and the files of `[tool.kitaru] include`. It
never contains likely credentials, by name or content. Files in .gitignore, .kitaruignore or
`exclude` are left out unless `include` names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.config import compiled_settings
from kitaru.toml_files import project_file
from kitaru.wire import disk
from kitaru.wire.structs import Struct
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.targets import BUNDLE_TOO_LARGE, FILE_NOT_IN_BUNDLE
from kitaru_compiler.frontend.files import Reference, below, matched
from kitaru_compiler.frontend.paths import WILD
from kitaru_compiler.frontend.project import Closure, Project
from kitaru_compiler.frontend.source import Source
from kitaru_compiler.lint.secrets import kind_in_text

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_BYTES = 32 * 1024 * 1024
# Data files in a package's folder that code may read without naming them.
DATA = frozenset({
    ".cfg", ".csv", ".graphql", ".hbs", ".html", ".ini", ".j2", ".jinja", ".jinja2", ".json",
    ".jsonl", ".md", ".mustache", ".prompt", ".proto", ".rst", ".sql", ".tmpl", ".toml", ".tsv",
    ".txt", ".xml", ".yaml", ".yml",
})  # fmt: skip
_JUNK = re.compile(r".*\.py[co]|\.DS_Store|Thumbs\.db|.*~|.*\.swp")
_SECRET_NAME = re.compile(
    r"\.env(\..*)?|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk|tfvars|tfstate)"
    r"|id_(rsa|dsa|ecdsa|ed25519)|\.(netrc|npmrc|pypirc|pgpass|htpasswd|git-credentials)"
    r"|(credentials|secrets?|client_secret.*|service[-_]?account.*|kubeconfig)"
    r"(\.(json|ya?ml|toml|ini|cfg|txt))?",
    re.IGNORECASE,
)
# The header of a SQLite store, which contains everything that was recorded.
_STORE = re.compile(rb"SQLite format 3\0.*CREATE TABLE object \(key TEXT PRIMARY KEY", re.DOTALL)
_BESIDE_A_STORE = ("-wal", "-shm", "-journal")
_FIRST_PAGES = 8192
_SECRET_FOLDERS = frozenset({".aws", ".ssh", ".gnupg", ".kube", ".docker", ".azure"})
_EXCLUDED = "is excluded in pyproject.toml"
_IGNORE_FILES = (".gitignore", ".kitaruignore")


@dataclass
class Travel:
    """The bundled files of a project, by their paths below its base folder.

    `reasons` contains the reason for each file that is not an imported module.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    findings: list[Diagnostic] = field(default_factory=list)


def travel(project: Project, source: Source) -> Travel:
    """Return the files to bundle with the flow in `source`.

    Raises SourceError if an imported file is not valid Python.
    """
    return _Packing(project, source).packed()


class _Candidate(Struct):
    """A candidate for the bundle: the reason, and the reference that names it, if any."""

    path: Path
    reason: str
    reference: Reference | None = None
    included: bool = False


class _Packing:
    def __init__(self, project: Project, source: Source) -> None:
        self._project = project
        self._source = source
        self._closure: Closure = project.closure(source.module)
        self._travel = Travel()
        self._left_out: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        start = (project.base / source.file).parent
        file = project_file(start)
        settings: dict[str, Any] = compiled_settings(start)
        self._folder = disk.resolved(file.parent) if file else project.root
        self._excluded = _spec(settings.get("exclude", []))
        self._top = self._repository()
        self._ignores: dict[Path, GitIgnoreSpec | None] = {}

    def packed(self) -> Travel:
        base, found = self._project.base, self._travel
        for name in self._closure.sources:
            found.files[name] = disk.read_bytes(base / name)
            self._sizes[name] = len(found.files[name])
        for name in self._closure.writers:
            found.reasons[name] = "it writes records that the flow may read"
        for name in self._closure.registrars:
            found.reasons[name] = "it registers a codec for a class that the flow imports"
        for candidate in self._candidates():
            self._take(candidate)
        found.findings += self._withheld()
        found.findings += self._missing()
        found.findings += self._too_large()
        found.files = dict(sorted(found.files.items()))
        found.reasons = dict(sorted(found.reasons.items()))
        return found

    def _repository(self) -> Path:
        """Return the top folder for ignore files: that of the repository or of the project."""
        base = self._project.base
        above = [base, *base.parents]
        top = next((folder for folder in above if disk.exists(folder / ".git")), self._folder)
        return top if base.is_relative_to(top) else base

    def _candidates(self) -> Iterator[_Candidate]:
        for path in self._project.included:
            yield _Candidate(path, "include in pyproject.toml", included=True)
        # References to single files come before those to folders, which are less specific.
        for each in sorted(self._closure.references, key=lambda each: each.kind != "path"):
            reason = f"{each.source.file}:{getattr(each.node, 'lineno', 1)} names it"
            for path in matched(each, self._project.base):
                yield _Candidate(path, reason, each)
        for source in self._closure.sources.values():
            if source.file.rpartition("/")[2] == "__init__.py":
                folder = (self._project.base / source.file).parent
                for path in _data_of(folder):
                    yield _Candidate(path, f"data file of the package {source.module}")

    def _take(self, candidate: _Candidate) -> None:
        base, path = self._project.base, candidate.path
        if not path.is_relative_to(base) or _JUNK.fullmatch(path.name):
            return
        name = path.relative_to(base).as_posix()
        if name in self._sizes or name in self._left_out:
            return
        try:
            why = self._why_not(candidate)
            size = disk.size(path)
            if not why:
                self._sizes[name] = size
                # Beyond the limit nothing is compiled, so no more files need to be read.
                if sum(self._sizes.values()) <= MAX_BYTES:
                    self._travel.files[name] = disk.read_bytes(path)
                    self._travel.reasons[name] = candidate.reason
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        if why:
            self._left_out[name] = why

    def _why_not(self, candidate: _Candidate) -> str:
        path = candidate.path
        if not disk.resolved(path).is_relative_to(disk.resolved(self._project.base)):
            return "is a link to a file outside the project"
        if _SECRET_NAME.fullmatch(path.name) or not _SECRET_FOLDERS.isdisjoint(path.parts):
            return "has the name of a file of credentials"
        if _is_store(path):
            return "is a store of Kitaru"
        if not candidate.included:
            if self._is_excluded(path):
                return _EXCLUDED
            if self._is_ignored(path):
                return "is ignored by .gitignore or .kitaruignore"
        if disk.size(path) <= MAX_BYTES and (kind := _secret_in(disk.read_bytes(path))):
            return f"contains {kind}"
        return ""

    def _is_excluded(self, path: Path) -> bool:
        if self._excluded is None or not path.is_relative_to(self._folder):
            return False
        return self._excluded.match_file(path.relative_to(self._folder).as_posix())

    def _is_ignored(self, path: Path) -> bool:
        """Return whether ignore files match a path. The deepest file with a match decides."""
        ignored = False
        for folder in reversed(path.parents):
            spec = self._ignore_of(folder) if folder.is_relative_to(self._top) else None
            result = spec.check_file(path.relative_to(folder).as_posix()) if spec else None
            if result is not None and result.include is not None:
                ignored = result.include
        return ignored

    def _ignore_of(self, folder: Path) -> GitIgnoreSpec | None:
        if folder not in self._ignores:
            files = (folder / name for name in _IGNORE_FILES)
            texts = (disk.read_text(f, "replace") for f in files if disk.is_file(f))
            self._ignores[folder] = _spec([line for text in texts for line in text.splitlines()])
        return self._ignores[folder]

    def _withheld(self) -> Iterator[Diagnostic]:
        """Yield a finding for each reference or `include` some of whose files are left out.

        If a glob finds fewer files in a step than here, the result differs without an error. A
        folder that is referenced as a whole may contain unrelated files.
        """
        told = set[str]()
        for each in self._closure.references:
            names = [self._name(path) for path in matched(each, self._project.base)]
            out = [name for name in dict.fromkeys(names) if name in self._left_out]
            secret = any(_is_secret(self._left_out[name]) for name in out)
            some = any(name in self._travel.files for name in names)
            whole = each.kind == "path" and WILD not in each.path
            meant = all(self._left_out[name] == _EXCLUDED for name in out)
            if not told.issuperset(out) and (secret or not some or not (whole or meant)):
                yield self._stays_out(each, [name for name in out if name not in told])
                told.update(out)
        for path in self._project.included:
            if (name := self._name(path)) in self._left_out.keys() - told:
                yield self._stays_out(None, [name])

    def _name(self, path: Path) -> str:
        base = self._project.base
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else ""

    def _stays_out(self, reference: Reference | None, names: list[str]) -> Diagnostic:
        why = self._left_out[names[0]]
        fix = "name it in `include` of [tool.kitaru] if steps need it"
        if _is_secret(why):
            fix = "pass it through kitaru.secret, or mount it into the container"
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        return self._finding(reference, f"`{names[0]}` {why}, so no step has it{more}", fix)

    def _missing(self) -> Iterator[Diagnostic]:
        written = {each.path for each in self._closure.references if each.kind == "write"}
        for each in self._closure.references:
            if each.kind == "unknown module" and not self._project.included:
                yield self._finding(
                    each,
                    "this imports a module that only run time knows, and a step has only those "
                    "that the source names",
                    'write its package out, import_module(f"plugins.{name}"), or name the files: '
                    '[tool.kitaru] include = ["plugins/**"]',
                )
            certain = each.reads and each.in_cwd and WILD not in each.path
            seen = each.path in self._travel.files or each.path in self._left_out
            if certain and not seen and each.path not in written:
                yield self._finding(
                    each,
                    f"`{each.path}` is read from the working directory; in a step that is the "
                    "folder of the bundle, and no such file is there",
                    'put it beside the module and read Path(__file__).parent / "…"',
                )

    def _too_large(self) -> Iterator[Diagnostic]:
        sizes = self._sizes
        total = sum(sizes.values())
        if total <= MAX_BYTES:
            return
        largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:5]
        shown = ", ".join(f"{name} ({_megabytes(size)})" for name, size in largest)
        message = (
            f"the files that travel take {_megabytes(total)}, and a bundle may take "
            f"{_megabytes(MAX_BYTES)}; the largest are {shown}"
        )
        fix = f'leave some out: [tool.kitaru] exclude = ["{largest[0][0]}"]'
        span = self._source.span(self._source.tree)
        yield Diagnostic(BUNDLE_TOO_LARGE, span, message, help=fix)

    def _finding(self, reference: Reference | None, message: str, fix: str) -> Diagnostic:
        source = reference.source if reference else self._source
        span = source.span(reference.node if reference else source.tree)
        return Diagnostic(FILE_NOT_IN_BUNDLE, span, message, help=fix)


def _is_secret(why: str) -> bool:
    return why.startswith(("has the name", "contains"))


def _is_store(path: Path) -> bool:
    for beside in _BESIDE_A_STORE:
        path = path.with_name(path.name.removesuffix(beside))
    return disk.is_file(path) and _STORE.match(disk.read_bytes(path, _FIRST_PAGES)) is not None


def _spec(lines: list[str]) -> GitIgnoreSpec | None:
    if not lines:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)


def _data_of(package: Path) -> Iterator[Path]:
    """Yield the data files in a package's folder and in subfolders that are not packages."""
    for path in below(package):
        between = (folder for folder in path.relative_to(package).parents if folder.name)
        nested = any(disk.is_file(package / folder / "__init__.py") for folder in between)
        if path.suffix.lower() in DATA and not nested:
            yield path


def _secret_in(data: bytes) -> str:
    try:
        return "" if b"\0" in data[:1024] else kind_in_text(data.decode("utf-8"))
    except UnicodeDecodeError:
        return ""


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"
