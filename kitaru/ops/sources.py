"""Sources of events: services that send signed requests, such as GitHub, Stripe and Slack.

    [tool.kitaru.sources.github]
    kind = "github"
    secret = "GITHUB_WEBHOOK_SECRET"

Each has its own URL, `POST /api/v1/events/{source}`, which needs no token: the signature says
who sends. The event's name and id are those of the service, so a delivery that is repeated is the
same event. What signs its time is refused five minutes later.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from kitaru import config
from kitaru.errors import EnvironmentFailure, NotFound, UsageError
from kitaru.ops.channels import signed
from kitaru.runtime import secrets
from kitaru.wire.events import check_event_id, values_at
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct

Kind = Literal["github", "stripe", "slack", "standard", "hmac"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TOLERANCE_SECONDS = 300.0
_DOCS = "docs/how-to/events.md"
_HEADER = "x-signature"
_HEX_PREFIX = "sha256="
# What only the generic kind has.
_OF_HMAC = frozenset({"header", "type_at", "id_at"})


class Source(Struct):
    """A service that sends events.

    Attributes:
        name: its name in the settings, with which names of its events begin.
        kind: how it signs.
        secret: the name of the secret with which it signs.
        header: of kind `hmac`, the header of the signature.
        type_at: of kind `hmac`, the path of the event's type in the body.
        id_at: of kind `hmac`, the path of the event's id in the body.
    """

    name: str
    kind: Kind
    secret: str
    header: str = _HEADER
    type_at: str = "type"
    id_at: str = "id"


class Received(Struct):
    """A request whose signature is valid.

    It sends an event with `name`, `id` and `data`, or only wants `answer` as the response.
    """

    name: str
    id: str
    data: Any
    answer: Any = None


class SignatureRefused(Exception):
    """A request is not signed, its signature is wrong, or it is too old."""


def sources() -> dict[str, Source]:
    """Return the sources of the settings in force by name; raise UsageError for a wrong one."""
    return {name: _source(name, table) for name, table in sorted(config.sources().items())}


def receive(
    name: str, headers: Mapping[str, str], body: bytes, at: float | None = None
) -> Received:
    """Check the signature of a request, and return what it sends.

    Args:
        name: name of the source.
        headers: its headers by lower-case name.
        body: its body, as it was sent.
        at: the time of this process in seconds; default now.

    Raises:
        NotFound: there is no such source.
        SignatureRefused: the request is not signed, its signature is wrong, or it is too old.
        UsageError: the body is not JSON, or has no valid name or id of an event.
        EnvironmentFailure: the secret of the source is not set, or cannot be read.

    Example:
        receive("github", {"x-hub-signature-256": "sha256=…", **others}, body).name
    """
    source = sources().get(name)
    if source is None:
        raise NotFound(f"There is no source {name!a}.", help=f"docs: {_DOCS}")
    key = secrets.find(source.secret)
    if not key:
        raise EnvironmentFailure(f"The secret of the source {name} is not set on the service.")
    _CHECKS[source.kind](source, key, headers, body, time.time() if at is None else at)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("The body of the event is not JSON.") from None
    return _received(source, headers, body, data)


def _check_github(
    source: Source, key: str, headers: Mapping[str, str], body: bytes, at: float
) -> None:
    _compare(_sent(headers, "x-hub-signature-256"), [_HEX_PREFIX + _hex(key, body)])


def _check_stripe(
    source: Source, key: str, headers: Mapping[str, str], body: bytes, at: float
) -> None:
    parts = [one.strip().partition("=") for one in _sent(headers, "stripe-signature").split(",")]
    moment = next((value for name, _, value in parts if name == "t"), "")
    _check_time(moment, at)
    expected = _hex(key, moment.encode("ascii") + b"." + body)
    _compare_any([value for name, _, value in parts if name == "v1"], [expected])


def _check_slack(
    source: Source, key: str, headers: Mapping[str, str], body: bytes, at: float
) -> None:
    moment = _sent(headers, "x-slack-request-timestamp")
    _check_time(moment, at)
    expected = "v0=" + _hex(key, b"v0:" + moment.encode("ascii") + b":" + body)
    _compare(_sent(headers, "x-slack-signature"), [expected])


def _check_standard(
    source: Source, key: str, headers: Mapping[str, str], body: bytes, at: float
) -> None:
    id, moment = _sent(headers, "webhook-id"), _sent(headers, "webhook-timestamp")
    _check_time(moment, at)
    if not id.isascii():
        raise SignatureRefused("The header webhook-id is not ASCII.")
    try:
        expected = signed(key, id, body, int(moment))["webhook-signature"]
    except UsageError as error:
        raise EnvironmentFailure(f"The source {source.name}: {error.message}") from None
    _compare_any(_sent(headers, "webhook-signature").split(), [expected])


def _check_hmac(
    source: Source, key: str, headers: Mapping[str, str], body: bytes, at: float
) -> None:
    digest = hmac.new(key.encode(), body, hashlib.sha256).digest()
    sent = _sent(headers, source.header).removeprefix(_HEX_PREFIX)
    _compare(sent, [digest.hex(), base64.b64encode(digest).decode("ascii")])


_CHECKS: Mapping[Kind, Callable[[Source, str, Mapping[str, str], bytes, float], None]] = {
    "github": _check_github,
    "stripe": _check_stripe,
    "slack": _check_slack,
    "standard": _check_standard,
    "hmac": _check_hmac,
}


def _received(source: Source, headers: Mapping[str, str], body: bytes, data: Any) -> Received:
    match source.kind:
        case "github":
            kind, id = headers.get("x-github-event"), headers.get("x-github-delivery")
        case "standard":
            kind, id = _at(data, "type"), headers.get("webhook-id")
        case "slack":
            kind, id = _at(data, "type"), _at(data, "event_id")
            if kind == "url_verification":
                return Received("", "", None, {"challenge": _at(data, "challenge")})
            kind = _at(data, "event.type") if kind == "event_callback" else kind
        case "stripe":
            kind, id = _at(data, "type"), _at(data, "id")
        case "hmac":
            kind, id = _at(data, source.type_at), _at(data, source.id_at)
            # A body without an id is one event, however often it is sent.
            id = hashlib.sha256(body).hexdigest() if id is None else id
    if not isinstance(kind, str) or not kind:
        raise UsageError("The request does not name the type of its event.", help=f"docs: {_DOCS}")
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    return Received(f"{source.name}.{kind}", check_event_id(id), data)


def _at(data: Any, path: str) -> Any:
    found = values_at([path], data)
    return None if found is None else found[path]


def _sent(headers: Mapping[str, str], name: str) -> str:
    found = headers.get(name, "")
    if not found:
        raise SignatureRefused(f"The request has no header {name}.")
    return found


def _hex(key: str, content: bytes) -> str:
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


def _check_time(moment: str, at: float) -> None:
    if not (moment.isascii() and moment.isdigit() and len(moment) < 12):
        raise SignatureRefused("The time of the signature is missing or not a number of seconds.")
    if abs(at - int(moment)) > TOLERANCE_SECONDS:
        raise SignatureRefused(
            f"The request was signed more than {TOLERANCE_SECONDS:.0f} seconds from now."
        )


def _compare(sent: str, expected: list[str]) -> None:
    _compare_any([sent], expected)


def _compare_any(sent: list[str], expected: list[str]) -> None:
    # All are compared, each in constant time.
    found = [
        hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("ascii"))
        for one in sent
        for other in expected
    ]
    if not any(found):
        raise SignatureRefused("The signature of the request is wrong.")


def _source(name: str, table: Mapping[str, Any]) -> Source:
    def wrong(what: str, help: str) -> UsageError:
        return UsageError(f"[tool.kitaru.sources.{name}]: {what}", help=help)

    check_name("source", name)
    kind = table.get("kind")
    if kind not in KINDS:
        raise wrong(f"kind is {kind!a}.", f"Use one of: {', '.join(KINDS)}")
    if name == "kitaru":
        raise wrong("the names of events of Kitaru begin with kitaru.", "Use another name.")
    if not all(isinstance(one, str) and one for one in table.values()):
        raise wrong("all values are strings.", f"docs: {_DOCS}")
    if "secret" not in table:
        raise wrong("secret is missing.", 'The name of a secret: secret = "WEBHOOK_SECRET"')
    check_name("secret", table["secret"])
    if kind != "hmac" and (excess := sorted(table.keys() & _OF_HMAC)):
        raise wrong(f"{', '.join(excess)} does not apply to {kind}.", f"docs: {_DOCS}")
    given = {key: value for key, value in table.items() if key in _OF_HMAC}
    if "header" in given:
        given["header"] = given["header"].lower()
    return Source(name, kind, table["secret"], **given)
