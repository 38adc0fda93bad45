"""Decides how a step's code reaches its container: in the image, from the store, or inline."""

from __future__ import annotations

import base64
import re
from importlib import resources
from typing import Literal, get_args

from kitaru.errors import UsageError
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import Plan

from . import bundle
from .base import Wiring

Delivery = Literal["store", "image", "inline"]

DEFAULT_IMAGE = "python:3.11-slim"
# Steps read a remote store through this; it is the release that the store tests run against.
OBSTORE = "obstore==0.12.1"
LITELLM = "litellm==1.106.2"
# Argo copies resolved arguments into a node's status about four times, and refuses above 1 MB.
MAX_INLINE_BYTES = 20 * 1024


def check(delivery: str) -> Delivery:
    """Return `delivery` when it is one; raise UsageError otherwise."""
    for known in get_args(Delivery):
        if delivery == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(
        f"unknown delivery {delivery!r}", help=f"one of: {', '.join(get_args(Delivery))}"
    )


def requirements(plan: Plan) -> tuple[str, ...]:
    """Return the pinned distributions that have to be in the container before a step starts.

    Raises UsageError for one that is not pinned, or that would bring another project called
    `kitaru` from an index: the runtime travels in the bundle or in the image.
    """
    named = {_name(pin) for pin in plan.requirements}
    needed = (OBSTORE, LITELLM) if plan.models else (OBSTORE,)
    pins = sorted({*plan.requirements, *(pin for pin in needed if _name(pin) not in named)})
    for pin in pins:
        if "==" not in pin or _name(pin) == "kitaru":
            raise UsageError(
                f"{pin!r} cannot be required by a step",
                help="requirements are NAME==VERSION, and never kitaru: it travels in the bundle",
            )
    return tuple(pins)


def wire(
    plan: Plan,
    delivery: Delivery,
    data: bytes,
    *,
    target: str,
    image: str | None,
    store: str,
    execution: str = "",
) -> Wiring:
    """Return how containers of the target called `target` start, given the bundle's bytes.

    Raises UsageError when an image is needed and none is given, or when the bundle is too large to
    travel inside the document.
    """
    if delivery != "store" and not image:
        raise UsageError(
            f"delivery {delivery!r} needs an image that holds Kitaru, and none is named",
            help="kitaru compile … --image REGISTRY/NAME@sha256:…; the Dockerfile written with it "
            "builds that image",
        )
    command, leading = _start(delivery, requirements(plan), data)
    environment = dict(plan.environment)
    leading = (*leading, "--target", target)
    return Wiring(image or DEFAULT_IMAGE, command, leading, store, environment, execution)


def program() -> str:
    """Return the program that a container without Kitaru starts with."""
    return (resources.files("kitaru_targets") / "bootstrap.py").read_text(encoding="utf-8").strip()


def _start(
    delivery: Delivery, pins: tuple[str, ...], data: bytes
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if delivery == "image":
        plan = f"{bundle.BUILD}/plan.json"
        return ("python3", "-m", "kitaru.runtime"), ("step", "--plan", plan)
    source = sha256(data) if delivery == "store" else f"inline:{_inline(data)}"
    return ("python3", "-c", program()), (source, *pins, "step")


def _inline(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    if len(text) > MAX_INLINE_BYTES:
        raise UsageError(
            f"the bundle takes {len(text):,} bytes, more than the {MAX_INLINE_BYTES:,} that may "
            "travel inside the document",
            help="use --delivery store or --delivery image",
        )
    return text


def _name(pin: str) -> str:
    return re.split(r"[\[=<>!~;\s]", pin.strip(), maxsplit=1)[0].lower().replace("_", "-")
