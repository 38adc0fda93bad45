"""Deliver a step's code to its container: in the image, from the store, or inline."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from importlib import resources
from typing import Literal, get_args

from kitaru_compiler.frontend.lock_files import Locked

from kitaru.errors import UsageError
from kitaru.runtime.journal import rounds
from kitaru.runtime.secrets import check_reference
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from kitaru.wire.models import is_direct, reached
from kitaru.wire.plan import Plan
from kitaru_targets import bundle
from kitaru_targets.base import ContainerSpec, Target, Transport
from kitaru_targets.common import kubernetes
from kitaru_targets.installs import Installs, installs, line

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")

Delivery = Literal["store", "image", "inline"]

# The client with which steps read a remote store, in the release that the store tests use.
OBSTORE = "obstore==0.12.1"
LITELLM = "litellm==1.106.2"
OPENAI = ("genai-prices==0.2.3", "httpx==0.28.1")
OPENTELEMETRY = ("opentelemetry-exporter-otlp-proto-http==1.45.2", "opentelemetry-sdk==1.45.2")
# The libraries that read secrets, by the scheme of the reference.
KEEPERS = {
    "aws": ("boto3==1.44.5",),
    "azure": ("azure-identity==1.27.0", "azure-keyvault-secrets==4.12.0"),
    "gcp": ("google-cloud-secret-manager==2.32.0",),
}
# Starts the program in a bundle on a disk, whose file name is its digest. It is short enough for
# targets whose arguments have at most 256 characters. The file is read once, so that the hashed
# bytes are those that run. The program receives them as `brought`.
CHECKED = (
    "import hashlib,io,sys,zipfile;p=sys.argv[1];brought=open(p,'rb').read();"
    "hashlib.sha256(brought).hexdigest()==p[-64:]"
    "or sys.exit('kitaru: '+p+' is not what was compiled');"
    f"exec(zipfile.ZipFile(io.BytesIO(brought)).read('{bundle.BUILD}/bootstrap.py'))"
)
# The same for a bundle inside the document.
INLINE = (
    "import base64,io,sys,zipfile;brought=base64.b64decode(sys.argv[1][7:]);"
    f"exec(zipfile.ZipFile(io.BytesIO(brought)).read('{bundle.BUILD}/bootstrap.py'))"
)
# With -P neither the working directory nor a script's folder is on the import path, so a file there
# cannot shadow a module of the standard library.
PYTHON = ("python3", "-P")
# Pattern for a line of the lists that pip reads.
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+*_-]+")
# Argo copies resolved arguments into a node's status about four times, and rejects more than 1 MB.
MAX_INLINE_BYTES = 20 * 1024


def check(delivery: str) -> Delivery:
    """Return `delivery` if it is valid; raise UsageError otherwise."""
    for known in get_args(Delivery):
        if delivery == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(
        f"Unknown delivery {delivery!r}.", help=f"one of: {', '.join(get_args(Delivery))}"
    )


def requirements(plan: Plan) -> tuple[str, ...]:
    """Return the pinned distributions that a container needs before a step starts.

    Raises UsageError for an unpinned distribution, and for one that would install another project
    called `kitaru` from an index: the runtime is in the bundle or in the image.
    """
    named = {_name(pin) for pin in plan.requirements}
    watched = OPENTELEMETRY if plan.settings.get("otel") else ()
    needed = [OBSTORE, *_clients(plan), *watched, *_keepers(plan)]
    pins = sorted({*plan.requirements, *(pin for pin in needed if _name(pin) not in named)})
    for pin in pins:
        if not _PIN.fullmatch(pin) or _name(pin) == "kitaru":
            raise UsageError(
                f"{pin!r} cannot be required by a step.",
                help="requirements are NAME==VERSION, and never kitaru: it travels in the bundle",
            )
    return tuple(pins)


def installed(plan: Plan, locked: Sequence[Locked]) -> Installs:
    """Return the distributions that containers install, with the data of the project's lists.

    Raises the UsageError of `requirements`.
    """
    pins = requirements(plan)
    client = next(pin for pin in pins if _name(pin) == _name(OBSTORE))
    return installs(pins, locked, client)


def _clients(plan: Plan) -> list[str]:
    """Return the libraries for the models of the plan; litellm only if a model needs it."""
    models = reached([*plan.models, *plan.asked], plan.models)
    if not models:
        return []
    return [*OPENAI, *([] if all(map(is_direct, models)) else [LITELLM])]


def _keepers(plan: Plan) -> list[str]:
    references = (check_reference(*pair).partition(":")[0] for pair in plan.secrets.items())
    return [pin for scheme in references for pin in KEEPERS.get(scheme, ())]


def wire(
    plan: Plan,
    delivery: Delivery,
    data: bytes,
    found: Installs,
    target: Target,
    *,
    image: str | None,
    base_image: str,
    store: str,
    execution: str = "",
    round: int = 0,
) -> ContainerSpec:
    """Return how containers of `target` start, from the bundle's bytes and the installed lists.

    The arguments of a step that fetches its bundle list the distributions needed for that. The
    bundle lists all others. `round` is the round of `execution` that the document is made for.

    Raises UsageError if an image is needed and not set, or if the bundle cannot be part of the
    document.
    """
    if delivery == "inline" and not target.transport.inline:
        raise UsageError(
            f"A document of {target.title} cannot hold the code of its steps.",
            help="use --delivery store or --delivery image",
        )
    if delivery != "store" and not image:
        raise UsageError(
            f"Delivery {delivery!r} needs an image that holds Kitaru, and none is named.",
            help="kitaru compile … --image REGISTRY/NAME@sha256:…; the Dockerfile written with it "
            "builds that image",
        )
    if image:
        check_image(image)
    brought = delivery == "store" and bool(target.transport.folder)
    if brought:
        command, leading = _brought(target.transport, data)
    elif delivery == "store" and target.transport.beside:
        command, leading = (*PYTHON, target.transport.beside), (sha256(data), "step")
    else:
        command, leading = _start(plan, delivery, found, data)
    used = image or (base_image if target.transport.image else "")
    _check_secrets(plan, target, used)
    return ContainerSpec(
        used,
        command,
        (*leading, "--target", target.name),
        store.rstrip("/"),
        {**plan.environment, **({rounds.VARIABLE: str(round)} if round else {})},
        execution,
        keys.bundle(sha256(data)) if brought else "",
    )


def _check_secrets(plan: Plan, target: Target, image: str) -> None:
    """Raise UsageError if a secret is in Kubernetes and the steps are no pods."""
    found = kubernetes.variables(plan)
    if found and not (target.transport.pods and image):
        pods = " without an image" if target.transport.pods else ""
        raise UsageError(
            f"The secret {found[0].name} is in Kubernetes, and {target.title}{pods} runs no pods.",
            help="Set an image: kitaru compile … --image REF"
            if target.transport.pods
            else f'Name a place that they can read: {found[0].name} = "aws:…" in '
            "[tool.kitaru.secrets].",
        )


def check_image(image: str) -> None:
    """Raise UsageError if a text is not a valid name of a container image.

    It is also written to the Dockerfile, where a line break would start another instruction.
    """
    if not _IMAGE.fullmatch(image):
        raise UsageError(
            f"{image!r} cannot be a container image.",
            help="Name it as a registry does: REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST",
        )


def program() -> str:
    """Return the program that starts in a container without Kitaru, and fetches the bundle."""
    return _source("start.py").strip()


def unpacking() -> str:
    """Return the program in a bundle, which unpacks the bundle and runs a step from it."""
    return _source("bootstrap.py")


def _source(name: str) -> str:
    return (resources.files("kitaru_targets") / name).read_text(encoding="utf-8")


def _brought(transport: Transport, data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    digest = sha256(data).removeprefix("sha256:")
    return (*PYTHON, "-c", CHECKED), (f"{transport.folder}/{digest}", "step")


def _start(
    plan: Plan, delivery: Delivery, found: Installs, data: bytes
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if delivery == "image":
        # An image's tag may have moved, so its content may differ from the compiled code.
        compiled = ("--plan-digest", sha256(plan.to_json().encode()))
        where = ("step", "--plan", f"{bundle.BUILD}/plan.json")
        return (*PYTHON, "-m", "kitaru.runtime"), (*where, *compiled)
    if delivery == "store":
        return (*PYTHON, "-c", program()), (sha256(data), *map(line, found.store), "step")
    # Hashes would take more space than the flow itself. Its image contains all distributions.
    return (*PYTHON, "-c", INLINE), (f"inline:{_inline(data)}", *requirements(plan), "step")


def _inline(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    if len(text) > MAX_INLINE_BYTES:
        raise UsageError(
            f"The bundle takes {len(text):,} bytes, more than the {MAX_INLINE_BYTES:,} that may "
            "travel inside the document.",
            help="use --delivery store or --delivery image",
        )
    return text


def _name(pin: str) -> str:
    return re.split(r"[\[=<>!~;\s]", pin.strip(), maxsplit=1)[0].lower().replace("_", "-")
