"""Read lock files: the distributions that a container installs, with the hashes of their files.

Four formats pin versions, hashes and dependencies: uv.lock, pylock.toml (PEP 751), poetry.lock and
pdm.lock. A container is Linux with CPython. Requirements for other platforms are left out, and so
are files for other systems:

    typing-extensions ; python_full_version < "3.13"    on every container: a pure wheel fits all
    colorama ; sys_platform == "win32"                  on no container
    numpy 2.2 ; python < "3.12", numpy 2.4 otherwise    both, each with its marker
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kitaru.wire import disk
from kitaru.wire.structs import Struct

NAMES = ("uv.lock", "pylock.toml", "poetry.lock", "pdm.lock")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("aarch64", "x86_64")
# Files that a container can install: pure wheels, source archives, and wheels for its machine.
_FILE = re.compile(rf"(-any|linux[^-]*_({'|'.join(MACHINES)}))\.whl$|\.(tar\.[a-z0-9]+|zip|tgz)$")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class Locked(Struct):
    """A distribution that containers install in one version.

    `marker` is the condition for its installation, empty if it is always installed. `hashes` are
    those of its files, such as `sha256:9f86…`, sorted. They are empty if the list has none.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


class Need(Struct):
    """A distribution required by another distribution or by the project."""

    name: str
    marker: str = ""
    extras: tuple[str, ...] = ()
    version: str = ""


@dataclass(slots=True)
class _Package:
    version: str
    needs: list[Need]
    extras: dict[str, list[Need]]
    hashes: tuple[str, ...]
    is_pure: bool
    # Its origin if it does not come from an index, such as `git+https://…`.
    origin: str
    # This version is used if one of these markers is true; empty: always.
    markers: tuple[str, ...]


@dataclass(slots=True)
class Lock:
    """The content of a lock file: its packages by name, each with one or more versions.

    `names_edges` is false if the file lists distributions without their dependencies, as in uv's
    pylock.toml. All of them are installed then.
    """

    packages: dict[str, list[_Package]] = field(default_factory=dict)
    names_edges: bool = True

    def version(self, name: str) -> str:
        """Return the version of a distribution, empty if it is missing or ambiguous."""
        found = {package.version for package in self.packages.get(name, [])}
        return found.pop() if len(found) == 1 else ""

    def origin(self, name: str) -> str:
        """Return the origin of a distribution that does not come from an index, else empty."""
        return next((p.origin for p in self.packages.get(name, []) if p.origin), "")

    def needed_everywhere(self, names: Iterable[str]) -> list[str]:
        """Return these distributions and their platform-independent dependencies, sorted."""
        seen, pending = set[str](), list(names)
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                needs = (need for p in self.packages.get(name, []) for need in p.needs)
                pending += [need.name for need in needs if not need.marker]
        return sorted(seen)

    def closure(self, roots: Iterable[Need]) -> tuple[Locked, ...]:
        """Return all distributions that containers install for `roots`, sorted by name.

        Example:
            read_lock(Path("uv.lock")).closure([Need("httpx", extras=("http2",))])
        """
        if not self.names_edges:
            roots = [Need(name) for name in self.packages]
        where: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for python in PYTHONS:
            for machine in MACHINES:
                # A marker may depend on a patch release. An image may have an early or a late one.
                late, early = (self._reached(roots, python, n, machine) for n in ("99", "0"))
                for name, version in {**early, **late}.items():
                    where.setdefault((name, version), set()).add((python, machine))
        several = {name for name, _ in where if sum(n == name for n, _ in where) > 1}
        found = []
        for (name, version), places in sorted(where.items()):
            package = next(p for p in self.packages[name] if p.version == version)
            fits_all = package.is_pure and name not in several
            marker = "" if fits_all else _marker(places)
            found.append(Locked(name, version, marker, package.hashes))
        return tuple(found)

    def _reached(
        self, roots: Iterable[Need], python: str, patch: str, machine: str
    ) -> dict[str, str]:
        """Return the versions that a single container installs, by name."""
        place = (python, patch, machine)
        found: dict[str, str] = {}
        seen: set[tuple[str, str]] = set()
        pending = list(roots)
        while pending:
            need = pending.pop()
            if not holds(need.marker, *place):
                continue
            package = self._chosen(need, place)
            if package is None:
                continue
            found.setdefault(need.name, package.version)
            for extra in ("", *need.extras):
                if (need.name, extra) not in seen:
                    seen.add((need.name, extra))
                    pending += package.extras.get(extra, []) if extra else package.needs
        return found

    def _chosen(self, need: Need, place: tuple[str, str, str]) -> _Package | None:
        for package in self.packages.get(need.name, []):
            fits = not need.version or need.version == package.version
            if fits and (not package.markers or any(holds(m, *place) for m in package.markers)):
                return package
        return None


@lru_cache(maxsize=4096)
def holds(marker: str, python: str, patch: str, machine: str) -> bool:
    """Return whether a marker is true in a container; an unreadable marker counts as true.

    >>> holds("sys_platform == 'win32'", "3.11", "0", "x86_64")
    False
    """
    if not marker:
        return True
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison

    try:
        return Marker(marker).evaluate(
            {
                "implementation_name": "cpython",
                "implementation_version": f"{python}.{patch}",
                "os_name": "posix",
                "platform_machine": machine,
                "platform_python_implementation": "CPython",
                "platform_release": "",
                "platform_system": "Linux",
                "platform_version": "",
                "python_full_version": f"{python}.{patch}",
                "python_version": python,
                "sys_platform": "linux",
                "extra": "",
            }
        )
    except (InvalidMarker, UndefinedComparison):
        return True


def condition(marker: str) -> str | None:
    """Simplify a marker for containers: empty if it is always true, None if it never is."""
    places = {
        (python, machine)
        for python in PYTHONS
        for machine in MACHINES
        if any(holds(marker, python, patch, machine) for patch in ("99", "0"))
    }
    return _marker(places) if places else None


def _marker(places: set[tuple[str, str]]) -> str:
    """Return the marker of a set of containers, empty for all of them."""
    if len(places) == len(PYTHONS) * len(MACHINES):
        return ""
    machines: dict[tuple[str, ...], list[str]] = {}
    for python in PYTHONS:
        there = tuple(machine for machine in MACHINES if (python, machine) in places)
        machines.setdefault(there, []).append(python)
    parts = []
    for there, pythons in machines.items():
        if not there:
            continue
        tests = [
            _any("python_version", pythons, PYTHONS),
            _any("platform_machine", there, MACHINES),
        ]
        parts.append(" and ".join(filter(None, tests)))
    return " or ".join(parts)


def _any(name: str, values: Iterable[str], of: Iterable[str]) -> str:
    chosen = list(values)
    if chosen == list(of):
        return ""
    text = " or ".join(f'{name} == "{value}"' for value in chosen)
    return f"({text})" if len(chosen) > 1 else text


def read_lock(path: Path) -> Lock:
    """Read a lock file; return an empty lock if it is not valid, which its own tool reports."""
    try:
        document = tomllib.loads(disk.read_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return Lock()
    lock = Lock()
    packages = [*_tables(document.get("package")), *_tables(document.get("packages"))]
    for package in packages:
        name = package.get("name")
        if isinstance(name, str) and not _is_of_project(package):
            known = lock.packages.setdefault(normal(name), [])
            _add(known, package, _old_files(document, package))
    lock.names_edges = path.name != "pylock.toml" or any("dependencies" in p for p in packages)
    return lock


def hashes_of(files: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the hashes of the files that a container can install, sorted.

    Each item of `files` is a name or address and `sha256:…`.
    """
    fit = {digest for name, digest in files if _FILE.search(name.partition("#")[0])}
    return tuple(sorted(digest for digest in fit if _HASH.fullmatch(digest)))


def normal(name: str) -> str:
    """Normalise the name of a distribution for comparison, as indexes do."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _add(known: list[_Package], package: dict[str, Any], files: list[tuple[str, str]]) -> None:
    files = [*_files(package), *files]
    extras = package.get("optional-dependencies")
    made = _Package(
        version=str(package.get("version", "")),
        needs=list(_needs(package.get("dependencies"))),
        extras={
            name: list(_needs(value))
            for name, value in (extras.items() if isinstance(extras, dict) else ())
        },
        hashes=hashes_of(files),
        is_pure=any(name.endswith("-none-any.whl") for name, _ in files),
        origin=_origin(package),
        markers=tuple(_markers(package)),
    )
    # pdm lists a distribution again for each set of extras.
    same = next((p for p in known if p.version == made.version), None)
    if same is None:
        known.append(made)
    elif pdm_extras := package.get("extras"):
        for extra in pdm_extras if isinstance(pdm_extras, list) else ():
            same.extras[str(extra)] = made.needs


def _is_of_project(package: Mapping[str, Any]) -> bool:
    """Return whether a package is the project itself, or a member of its workspace."""
    source = package.get("source")
    in_source = isinstance(source, dict) and {"virtual", "editable", "directory"} & source.keys()
    return bool(in_source) or isinstance(package.get("directory"), dict)


def _origin(package: Mapping[str, Any]) -> str:
    source = package.get("source")
    if isinstance(source, dict):
        for kind in ("git", "url", "path"):
            # poetry writes {type = "git", url = …}, and "legacy" as the type of an index.
            if isinstance(source.get(kind), str) and "type" not in source:
                return f"git+{source[kind]}" if kind == "git" else str(source[kind])
        if source.get("type") in ("git", "url", "file", "directory"):
            return f"{source['type']} {source.get('url', '')}".strip()
    for kind in ("vcs", "archive"):
        if isinstance(found := package.get(kind), dict):
            return str(found.get("url") or found.get("path") or kind)
    for kind in ("git", "url", "path"):
        if isinstance(package.get(kind), str):
            return str(package[kind])
    return ""


def _markers(package: Mapping[str, Any]) -> Iterator[str]:
    several = package.get("resolution-markers")
    yield from (str(one) for one in several) if isinstance(several, list) else ()
    if isinstance(one := package.get("marker"), str):
        yield one


def _files(package: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the hash of each file, in any of the four formats."""
    for each in (*_tables(package.get("wheels")), package.get("sdist"), package.get("archive")):
        if isinstance(each, dict):
            yield from _file(each)
    for each in _tables(package.get("files")):
        yield from _file(each)


def _file(each: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    place = next((each[k] for k in ("name", "file", "filename", "url", "path") if k in each), "")
    hashes = each.get("hashes")
    digest = f"sha256:{hashes.get('sha256')}" if isinstance(hashes, dict) else each.get("hash")
    if isinstance(place, str) and isinstance(digest, str):
        yield place, digest


def _old_files(document: Mapping[str, Any], package: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the files of a package from the separate table of poetry 1.2 and pdm 2.4."""
    metadata = document.get("metadata")
    files = metadata.get("files") if isinstance(metadata, dict) else None
    if not isinstance(files, dict):
        return []
    name = package["name"]
    keys = (name, f"{name} {package.get('version', '')}")
    return [file for key in keys for each in _tables(files.get(key)) for file in _file(each)]


def _tables(found: Any) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _needs(dependencies: Any) -> Iterator[Need]:
    """Yield the dependencies of a locked distribution, in any of the four formats."""
    if isinstance(dependencies, dict):
        for name, value in dependencies.items():
            for each in value if isinstance(value, list) else [value]:
                details = each if isinstance(each, dict) else {}
                if not details.get("optional"):
                    marker = str(details.get("markers", ""))
                    yield Need(normal(name), marker, _texts(details.get("extras")))
        return
    for each in dependencies if isinstance(dependencies, list) else ():
        if isinstance(each, str):
            yield need_of(each)
        elif isinstance(each, dict) and isinstance(each.get("name"), str):
            yield Need(
                normal(each["name"]),
                str(each.get("marker", "")),
                _texts(each.get("extra")),
                str(each.get("version", "")),
            )


def need_of(text: str) -> Need:
    """Parse a requirement in the usual notation.

    >>> need_of("httpx[http2]>=0.2; python_version < '3.13'")
    Need(name='httpx', marker="python_version < '3.13'", extras=('http2',), version='')
    """
    plain, _, marker = text.partition(";")
    found = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", plain)
    name, extras = (found[1], found[2] or "") if found else (plain.strip(), "")
    listed = tuple(extra.strip() for extra in extras.split(",") if extra.strip())
    return Need(normal(name), marker.strip(), listed)


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in found) if isinstance(found, list) else ()
