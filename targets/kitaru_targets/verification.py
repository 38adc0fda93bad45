"""Verify every file of a build directory against the digests of its compilation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kitaru.errors import StateError
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import LOCK
from kitaru_targets import installs, lock, overrides, plans, registry
from kitaru_targets.build import image_without_digest
from kitaru_targets.bundle import BUILD, contents
from kitaru_targets.vendor import Opinion

# The copies in the directory and in the bundle must be equal: steps run the bundle's copy.
_TWICE = ("plan.json", "steps.py")


@dataclass(frozen=True, slots=True)
class Verification:
    """The result: the build's files, the total digest, errors and warnings.

    `overrides` are those of the project that changed its documents, each on one line. `sdk` is what
    the vendor's SDK says of the document, None if it was not asked.
    """

    files: tuple[str, ...]
    digest: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    sdk: Opinion | None = None


def verify(directory: Path) -> Verification:
    """Compare a build with the digests in its `lock.json`; raise StateError if there is no lock.

    The lock is not signed: an attacker who can change it can change everything. To recognise the
    build later, store the digest or deploy the build.
    """
    found = lock.read(directory)
    read = {name: _read(directory, name) for name in sorted(found.files)}
    problems = (
        *_changed(read, found),
        *_bundle(read),
        *_settings(read, found),
        *_strange(directory, found),
    )
    # A process of this machine uses no container.
    images = (
        () if found.target == registry.LOCAL else dict.fromkeys((found.image, found.base_image))
    )
    warnings = [warning for image in images for warning in image_warnings(image)]
    if not problems:
        warnings += _install_warnings(read)
    changed = () if problems else _overrides(read["plan.json"])
    return Verification(tuple(read), found.digest, problems, tuple(warnings), changed)


def _overrides(plan: bytes | StateError) -> tuple[str, ...]:
    found = () if isinstance(plan, StateError) else plans.read_plan(plan, "plan.json").overrides
    return tuple(map(overrides.summary, found))


def _read(directory: Path, name: str) -> bytes | StateError:
    try:
        return lock.read_file(directory, name)
    except StateError as error:
        return error


def image_warnings(image: str) -> Iterator[str]:
    """Yield why the name of an image may refer to another image later."""
    if problem := image_without_digest(image):
        yield f"the {problem}: name its digest, …@sha256:…"


def _install_warnings(read: Mapping[str, bytes | StateError]) -> Iterator[str]:
    data = read.get(installs.UNHASHED)
    if isinstance(data, bytes):
        bare = ", ".join(one.name for one in installs.parse(data, installs.UNHASHED))
        yield f"no hash is known of {bare}: see {installs.UNHASHED}"


def _changed(read: Mapping[str, bytes | StateError], found: lock.Lock) -> Iterator[str]:
    for name, data in read.items():
        if isinstance(data, StateError):
            yield f"{name} is missing, too large or no plain file"
        elif sha256(data) != found.files[name]:
            yield f"{name} changed"


def _bundle(read: Mapping[str, bytes | StateError]) -> Iterator[str]:
    data = read["bundle.zip"]
    if isinstance(data, StateError):
        return
    try:
        inside = contents(data)
    except StateError as error:
        yield f"bundle.zip cannot be read: {error.message}"
        return
    for name in _TWICE:
        if inside.get(f"{BUILD}/{name}") != read[name]:
            yield f"{name} is not the one in bundle.zip"


def _settings(read: Mapping[str, bytes | StateError], found: lock.Lock) -> Iterator[str]:
    """Yield the settings of the lock that its files do not contain: residual builds use them."""
    # A target of another distribution may write images in its own way.
    if not registry.is_own(found.target) or found.target == registry.LOCAL:
        return
    target = registry.get(found.target)
    documents = (target.document, *target.further)
    places = {"image": documents, "store": documents, "base_image": ("Dockerfile",)}
    for setting, names in places.items():
        held = [data for data in map(read.get, names) if isinstance(data, bytes)]
        value = getattr(found, setting)
        if len(held) == len(names) and not any(_contains(data, value) for data in held):
            yield f"the {setting} in {LOCK} is not the one in {names[0]}"


def _contains(document: bytes, value: str) -> bool:
    """Whether a document contains a string in a spelling of YAML, JSON or Python."""
    spelled = (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    return any(one.encode() in document for one in (*spelled, repr(value)[1:-1]))


def _strange(directory: Path, found: lock.Lock) -> Iterator[str]:
    known = {*found.files, LOCK}
    for path in sorted(directory.iterdir()):
        if path.name not in known:
            yield f"{path.name} is not of this build"
