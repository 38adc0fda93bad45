"""Write a build directory, completely or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kitaru_compiler.frontend.lock_files import Locked
from kitaru_templates.render import render

from kitaru.errors import FlowError, StateError, UsageError
from kitaru.wire.canonical import indented, sha256
from kitaru.wire.models import reached
from kitaru.wire.plan import LOCK, Plan
from kitaru.wire.structs import Struct, replace
from kitaru_targets import (
    about,
    build_directory,
    build_secrets,
    bundle,
    delivery,
    graph,
    installs,
    lock,
    overrides,
    plans,
    registry,
    sourcemap,
)
from kitaru_targets.base import ContainerSpec, Emission, Target, Transport
from kitaru_targets.common import node_names, parameters, schedules


class _Travel(Protocol):
    @property
    def files(self) -> Mapping[str, bytes]: ...
    @property
    def reasons(self) -> Mapping[str, str]: ...


class Compiled(Protocol):
    """The parts of a compilation that are written; the compiler's result fits."""

    @property
    def plan(self) -> Plan: ...
    @property
    def steps_py(self) -> str: ...
    @property
    def travel(self) -> _Travel: ...
    @property
    def locked(self) -> Sequence[Locked]: ...


@dataclass(frozen=True, slots=True)
class Build:
    """A written compilation: its location, document, files by name and options.

    `lock` contains the options of the compilation and the digest of each file. `contents` are the
    written files, empty for a build that was read from its directory.
    """

    directory: Path
    document: Path
    files: tuple[str, ...]
    plan: Plan
    target: Target
    delivery: delivery.Delivery
    bundle_digest: str
    lock: lock.Lock
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def read(self, name: str) -> bytes:
        """Return a file of the build; raise StateError if it differs from the compiled file."""
        return _verified(self.directory, name, self.lock.files[name])


def write(
    compilation: Compiled,
    target: Target,
    directory: Path,
    *,
    image: str | None = None,
    store: str = "",
    delivery: str = "store",
    execution: str = "",
    round: int = 0,
    base_image: str = "",
    require_hashes: bool = False,
    commit: str = "",
) -> Build:
    """Write a compilation for `target` to `directory`, replacing an earlier one.

    Args:
        image: the container image; by default a plain Python image, for the delivery `store` only.
        store: URL of the store that steps use; empty if it is set at submission.
        delivery: how the code reaches a container: `store`, `image` or `inline`.
        execution: the execution that a run of the document resumes; empty for a new one.
        round: the round of that execution that the document is made for, 0 for any.
        base_image: the Python image on which the Dockerfile builds, and on which steps run if no
            image is set; empty for that of the target.
        require_hashes: refuse a requirement without a hash, and an image that is named by a tag.
        commit: the commit of the sources, for the header of the document.

    Raises:
        UsageError: the directory cannot be written or contains other files, the delivery does not
            fit, the build would contain the value of a secret on this machine, or a required hash
            is missing.
        FlowError: the emitted document does not pass its check.

    Example:
        >>> write(compile_flow(Path("flow.py")), get("vertex"), Path("build/flow/vertex"))
    """
    made = _make(
        compilation,
        target,
        delivery,
        image=image,
        store=store,
        execution=execution,
        round=round,
        base_image=base_image or Transport().image,
        require_hashes=require_hashes,
        commit=commit,
    )
    build_directory.replace(directory, made.files)
    return Build(
        directory=directory,
        document=directory / target.document,
        files=tuple(sorted(made.files)),
        plan=made.plan,
        target=target,
        delivery=made.delivery,
        bundle_digest=made.digest,
        lock=lock.parse(made.files[LOCK], str(directory)),
        contents=made.files,
    )


def read(directory: Path) -> Build:
    """Return the build in `directory`.

    Raises:
        StateError: the directory contains no build, or one of its files is damaged or was changed.
        UsageError: its target is unknown to this version of Kitaru.

    Example:
        >>> read(Path("build/review/vertex")).plan.flow
        'review'
    """
    found = lock.read(directory)
    files = {name: _verified(directory, name, digest) for name, digest in found.files.items()}
    plan = plans.read_plan(files["plan.json"], str(directory))
    target = registry.get(found.target)
    said = (plan.flow, plan.kitaru, plan.granularity)
    if said != (found.flow, found.kitaru, found.granularity) or target.document not in files:
        raise StateError(
            f"{directory} holds no build that can be used: {LOCK} is that of another one.",
            help=_AGAIN,
        )
    return Build(
        directory=directory,
        document=directory / target.document,
        files=tuple(sorted([*files, LOCK])),
        plan=plan,
        target=target,
        delivery=delivery.check(found.delivery),
        bundle_digest=found.files["bundle.zip"],
        lock=found,
    )


_AGAIN = "Compile again: kitaru compile FLOW --target T -o DIR"


def _verified(directory: Path, name: str, digest: str) -> bytes:
    data = lock.read_file(directory, name)
    if sha256(data) != digest:
        raise StateError(f"{directory / name} changed after it was compiled.", help=_AGAIN)
    return data


class _Made(Struct):
    files: dict[str, bytes]
    plan: Plan
    delivery: delivery.Delivery
    digest: str


def _make(
    compilation: Compiled,
    target: Target,
    how: str,
    *,
    image: str | None,
    store: str,
    execution: str,
    round: int,
    base_image: str,
    require_hashes: bool,
    commit: str,
) -> _Made:
    way = delivery.check(how)
    delivery.check_image(base_image)
    plan = parameters.portable(compilation.plan, target.transport)
    sources = compilation.travel.files
    if not execution:
        # The residual pipeline of an execution is made of parts that are stored already.
        images = {"the image": image or "", "the base image": base_image}
        build_secrets.check(plan, sources, {**images, "the URL of the store": store})
    written = {"plan.json": plan.to_json().encode(), "steps.py": compilation.steps_py.encode()}
    # The other deliveries start with a program that the bundle contains.
    start = {} if way == "image" else {"bootstrap.py": delivery.unpacking().encode()}
    found = delivery.installed(plan, compilation.locked)
    lists = {} if way == "inline" else _lists(found)
    data = bundle.make(sources, written | start | lists, with_runtime=way != "inline")
    wiring = delivery.wire(
        plan,
        way,
        data,
        found,
        target,
        image=image,
        base_image=base_image,
        store=store,
        execution=execution,
        round=round,
    )
    if require_hashes:
        _check_hashes(found, *(() if target.name == registry.LOCAL else (wiring.image, base_image)))
    options = about.Options(
        target=target.name,
        delivery=way,
        image=image or "",
        store=wiring.store,
        granularity="" if target.runs_whole else plan.granularity,
        commit=commit,
        execution=execution,
    )
    wiring = replace(wiring, about=about.about(plan, sources, options))
    schedules.check(plan, target, wiring)
    emission = target.emit(plan, wiring)
    _check(target, emission)
    emission = overrides.apply(plan, target, emission, rest=bool(execution))
    files = written | {target.document: emission.text.encode(), "bundle.zip": data}
    files |= {name: text.encode() for name, text in emission.files.items()}
    if way == "inline":
        files["runtime.zip"] = bundle.make({}, {}, with_runtime=True)
    files["sourcemap.json"] = _json(sourcemap.make(plan, target.document, emission))
    files |= installs.files(found.all)
    files |= _documents(plan, target, wiring, way, found, base_image, sha256(data), emission)
    files["index.html"] = _page(plan, compilation.steps_py, sources, target)
    reasons = compilation.travel.reasons
    files[LOCK] = _json(_lock(plan, target, wiring, way, base_image, files, reasons))
    lock.check_sizes(files)
    return _Made(files, plan, way, sha256(data))


def _lists(found: installs.Installs) -> dict[str, bytes]:
    """Return the lists of a bundle; the client of a bucket is in a list of its own."""
    return installs.files(found.others) | {installs.STORE: installs.text(found.store).encode()}


def _check_hashes(found: installs.Installs, *images: str) -> None:
    """Raise UsageError if a container would install, or run on, something without a hash."""
    if bare := [f"{one.name}=={one.version}" for one in found.unhashed]:
        raise UsageError(
            f"No hash is known of {', '.join(bare)}, and require_hashes is set: nothing was "
            "written.",
            help="Lock the project with `uv lock`, or name a list in [tool.kitaru] requirements "
            "that `uv pip compile --generate-hashes` wrote.",
        )
    for image in images:
        if problem := image_without_digest(image):
            raise UsageError(
                f"The {problem}, and require_hashes is set: nothing was written.",
                help=f"Set its digest, which `docker buildx imagetools inspect {image}` prints, in "
                "[tool.kitaru]: "
                f'{"base_image" if image == images[-1] else "image"} = "{image}@sha256:…"',
            )


def image_without_digest(image: str) -> str:
    """Return why the name of an image may refer to another image later, or an empty string.

    >>> image_without_digest("python:3.11-slim")
    'image python:3.11-slim is named by a tag, which can move'
    """
    if not image or "@sha256:" in image:
        return ""
    return f"image {image} is named by a tag, which can move"


def _check(target: Target, emission: Emission) -> None:
    problems = target.validate(emission.text)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:10])
        raise FlowError(
            f"{target.title} would not run the emitted document as it is meant:\n{shown}",
            help="This is a defect of Kitaru: please report it together with the flow.",
        )


def _documents(
    plan: Plan,
    target: Target,
    wiring: ContainerSpec,
    way: str,
    found: installs.Installs,
    base_image: str,
    digest: str,
    emission: Emission,
) -> dict[str, bytes]:
    values = {
        "flow": plan.flow,
        "target": target.name,
        "title": target.title,
        "document": target.document,
        "delivery": way,
        "image": wiring.image,
        "brought": bool(wiring.bundle),
        "pipeline": node_names.slug(plan.flow, fallback="flow"),
        "base_image": base_image,
        "store": wiring.store,
        "key": f"bundle/{digest.removeprefix('sha256:')}",
        "requirements": delivery.requirements(plan),
        "hashed": any(one.hashes for one in found.all),
        "unhashed": [f"{one.name}=={one.version}" for one in found.unhashed],
        "parameters": [_parameter(p) for p in plan.parameters],
        "models": [(alias, _named(model)) for alias, model in sorted(plan.models.items())],
        "written": sorted(reached(set(plan.asked) - plan.models.keys(), plan.models)),
        "secrets": sorted(plan.secrets.items()),
        "waits": [block.name for block in plan.blocks if block.kind == "wait"],
        "asks": emission.asks,
        "beside": sorted(emission.files),
        "options": plan.options,
        "schedule": schedules.native(plan, wiring),
        "steps": [step.name for step in plan.steps],
    }
    return {
        "Dockerfile": render("Dockerfile.j2", values).encode(),
        "DEPLOY.md": target.guide(values).encode(),
    }


def _named(model: Any) -> str:
    """Return the name of a model, and the secret with its key if it names one."""
    if not isinstance(model, dict):
        return str(model)
    key = f", its key the secret {model['secret']}" if "secret" in model else ""
    return f"{model['model']}{key}"


def _page(plan: Plan, steps: str, sources: Mapping[str, bytes], target: Target) -> bytes:
    texts = {n: graph.decoded(data) for n, data in sources.items() if n.endswith(".py")}
    made = graph.graph_of(plan, steps, texts, target.profile.start_seconds)
    return graph.page(made, texts, target.title).encode()


def _parameter(parameter: Any) -> dict[str, Any]:
    default = "required" if parameter.required else "the flow's own default"
    if parameter.has_literal_default:
        default = json.dumps(parameter.default)
    return {
        "name": parameter.name,
        "type": parameters.native_type(parameter),
        "default": default,
        "is_json": parameter.type == "json",
    }


def _lock(
    plan: Plan,
    target: Target,
    wiring: ContainerSpec,
    way: str,
    base_image: str,
    files: Mapping[str, bytes],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "schema": lock.SCHEMA,
        "kitaru": plan.kitaru,
        "flow": plan.flow,
        "target": target.name,
        "granularity": plan.granularity,
        "delivery": way,
        "image": wiring.image,
        "base_image": base_image,
        "store": wiring.store,
        "requirements": list(delivery.requirements(plan)),
        "data": dict(reasons),
        "files": {name: sha256(files[name]) for name in sorted(files)},
    }


def _json(value: Any) -> bytes:
    return f"{indented(value)}\n".encode()
