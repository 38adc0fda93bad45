"""Write a software bill of materials of a build, in CycloneDX.

It lists the content of the build's image besides its base: each distribution with the hashes of its
possible files, Kitaru's runtime, the flow's own files, and the base image itself. The content of
the base image is visible only to an image scanner.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure, StateError, UsageError
from kitaru.wire.canonical import sha256
from kitaru_targets import bundle, installs, lock
from kitaru_targets.verification import verify

_NAMESPACE = uuid.UUID("8f0c0a52-6f0b-5d0c-9a39-3f6f5f7f1c11")


def sbom(directory: Path) -> str:
    """Return the bill of materials of the build in `directory`: JSON of CycloneDX 1.6.

    The same build has the same text: it contains no time, and its serial number is derived from the
    digest of the build.

    Raises:
        StateError: there is no build, or a file was changed after the compilation.
        EnvironmentFailure: the library of the extra `sbom` is missing.

    Example:
        >>> json.loads(sbom(Path("build/review/vertex")))["bomFormat"]
        'CycloneDX'
    """
    try:
        from cyclonedx.model.bom import Bom
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError as error:
        raise EnvironmentFailure(
            "A bill of materials needs a library that is not installed.",
            help="pip install 'cyclonedx-python-lib>=11,<12'",
        ) from error
    problems = verify(directory).problems
    if problems:
        raise StateError(
            f"{directory} is not what was compiled: {'; '.join(problems)}",
            help="Compile again: kitaru compile FLOW --target T -o DIR",
        )
    found = lock.read(directory)
    names = [name for name in (installs.HASHED, installs.UNHASHED) if name in found.files]
    listed = {name: lock.read_file(directory, name) for name in names}
    inside = bundle.contents(lock.read_file(directory, "bundle.zip"))
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, found.digest))
    flow = _flow(found)
    parts = [
        *_distributions(listed),
        _runtime(found),
        *_files(bundle.project(inside)),
        *(_image(image) for image in dict.fromkeys((found.image, found.base_image)) if image),
    ]
    bom.metadata.component = flow
    bom.components.update(parts)
    bom.register_dependency(flow, parts)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # A time stamp would make every text different.
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def write_sbom(directory: Path, file: Path) -> None:
    """Write the bill of materials of the build in `directory` to a file.

    Raises UsageError if the file cannot be written, and the errors of `sbom`.
    """
    text = sbom(directory)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {file}: {error.strerror or error}") from error


def _flow(found: lock.Lock) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=found.flow,
        type=ComponentType.APPLICATION,
        version=found.digest,
        bom_ref=f"flow:{found.flow}",
        hashes=[_hash(found.digest)],
        properties=_properties(target=found.target, delivery=found.delivery, kitaru=found.kitaru),
    )


def _distributions(listed: Mapping[str, bytes]) -> list[Any]:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

    found = []
    for one in (one for name, data in listed.items() for one in installs.parse(data, name)):
        name = one.name.partition("[")[0]
        purl = PackageURL("pypi", None, name, one.version)
        # A component has the hash of one file. These are the hashes of all its possible files.
        files = ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(purl.to_string()),
            hashes=[_hash(digest) for digest in one.hashes],
        )
        found.append(
            Component(
                name=name,
                version=one.version,
                purl=purl,
                bom_ref=purl.to_string(),
                external_references=[files] if one.hashes else [],
                properties=_properties(marker=one.marker),
            )
        )
    return found


def _runtime(found: lock.Lock) -> Any:
    from cyclonedx.model.component import Component

    # Not from an index: another project has that name there.
    return Component(name="kitaru", version=found.kitaru, bom_ref=f"kitaru:{found.kitaru}")


def _files(files: Mapping[str, bytes]) -> list[Any]:
    from cyclonedx.model.component import Component, ComponentType

    return [
        Component(
            name=name,
            type=ComponentType.FILE,
            bom_ref=f"file:{name}",
            hashes=[_hash(sha256(data))],
        )
        for name, data in sorted(files.items())
    ]


def _image(image: str) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    name, _, digest = image.partition("@")
    return Component(
        name=name,
        type=ComponentType.CONTAINER,
        version=digest or None,
        bom_ref=f"image:{image}",
        hashes=[_hash(digest)] if digest.startswith("sha256:") else [],
    )


def _hash(digest: str) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))


def _properties(**values: str) -> list[Any]:
    from cyclonedx.model import Property

    return [Property(name=f"kitaru:{k}", value=value) for k, value in values.items() if value]
