"""Channels of notifications: webhooks, Slack, Teams and mail, as the settings define them.

    [tool.kitaru.notify.reviewers]
    kind = "slack"
    url_secret = "REVIEWERS_SLACK_URL"
    flows = ["review"]

Where notifications go is defined by the settings of the process that sends them and by nothing
else: no flow, plan, deployment or object of the store can name an address. Redirects are not
followed. So nobody who writes to the store can make the service send a request elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parseaddr, parsedate_to_datetime
from typing import Any, Literal, get_args
from urllib.parse import SplitResult, unquote, urlsplit

from kitaru import config
from kitaru.errors import NotFound, UsageError
from kitaru.ops import messages
from kitaru.ops.access import matches
from kitaru.ops.messages import Message
from kitaru.runtime import secrets
from kitaru.version import VERSION
from kitaru.wire.names import check_name, suggestion
from kitaru.wire.redaction import redacted
from kitaru.wire.structs import Struct

On = Literal["waiting", "escalated", "failed", "cost"]
Kind = Literal["webhook", "slack", "teams", "email"]

EVENTS: tuple[On, ...] = get_args(On)
_KINDS: tuple[Kind, ...] = get_args(Kind)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SECONDS = 10.0
# For the whole exchange, however slowly the receiver sends.
_ALL_SECONDS = 20.0
_MOST_BYTES = 4_096
_LINK_HOURS = 72
_MOST_HOURS = 24 * 30
_KEY_BYTES = range(24, 65)
_OK = range(200, 300)
_REDIRECT = range(300, 400)
# The receiver as a whole cannot accept messages now.
_BUSY = (408, 429, 500, 502, 503, 504)
_MAIL_LATER = range(400, 500)


class Channel(Struct):
    """Where notifications go.

    Attributes:
        name: its name in the settings.
        kind: `webhook`, `slack`, `teams` or `email`.
        on: the events that it is notified of.
        flows: names of flows, or patterns; empty for all flows.
        answer_links: whether a question comes with a link that answers it without an account.
        link_hours: how long such a link is valid.
        options: the other settings of its kind.
    """

    name: str
    kind: Kind
    on: tuple[On, ...]
    flows: tuple[str, ...]
    answer_links: bool
    link_hours: int
    options: Mapping[str, Any]

    @property
    def place(self) -> str:
        """What it sends to, without secrets."""
        if self.kind == "email":
            return ", ".join(self.options["to"])
        if "url" in self.options:
            parts = urlsplit(self.options["url"])
            return f"{parts.scheme}://{parts.hostname or ''}"
        return f"secret {self.options['url_secret']}"

    def wants(self, event: str, flow: str, to: str = "") -> bool:
        """Return whether it is notified of an event. `to` is the addressee of an escalation."""
        is_of_flow = not self.flows or matches(flow, self.flows)
        return is_of_flow and (self.name == to if to else event in self.on)

    def shown(self) -> ChannelInfo:
        """Return what people may see of it."""
        return ChannelInfo(self.name, self.kind, self.place, self.on, self.flows, self.answer_links)


class ChannelInfo(Struct):
    """A channel, without secrets; see `Channel`. `place` is where it sends to."""

    name: str
    kind: str
    place: str
    on: tuple[str, ...]
    flows: tuple[str, ...]
    answer_links: bool


class Refused(Exception):
    """A try failed.

    `is_busy`: the receiver accepts no other message now either. `pause` are the seconds that it
    asks for, 0 for none.
    """

    def __init__(self, reason: str, *, is_busy: bool, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.is_busy = is_busy
        self.pause = pause


def channels() -> list[Channel]:
    """Return the channels of the settings in force, by name; raise UsageError for a wrong one."""
    return [_channel(name, table) for name, table in sorted(config.channels().items())]


def channel(name: str) -> Channel:
    """Return the channel of that name; raise NotFound."""
    known = {one.name: one for one in channels()}
    if name not in known:
        listed = "Define it: [tool.kitaru.notify.NAME]" if not known else ", ".join(known)
        raise NotFound(f"There is no channel {name!a}.", help=suggestion(name, known, listed))
    return known[name]


def send(channel: Channel, message: Message) -> None:
    """Send a message once.

    Raises:
        Refused: it was not accepted.
        UsageError: a secret has no valid value.
        EnvironmentFailure: a secret cannot be read.
    """
    if channel.kind == "email":
        _mail(channel, message)
        return
    if "url_secret" in channel.options:
        url = _secret(channel, "url_secret")
        _check_url(channel.name, "url_secret", url, is_secret=True)
    else:
        url = channel.options["url"]
    match channel.kind:
        case "slack":
            _post(url, messages.for_slack(message), {})
        case "teams":
            _post(url, messages.for_teams(message), {})
        case _:
            body = messages.as_json(message)
            _post(url, body, signed(_secret(channel, "signing_secret"), message.id, body))


def signed(key: str, id: str, body: bytes, at: int | None = None) -> dict[str, str]:
    """Return the headers of Standard Webhooks for a body; `at` is the time in seconds, now.

    Raises UsageError if the key is not `whsec_` and base64 of 24 to 64 bytes.
    """
    try:
        raw = base64.b64decode(key.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) not in _KEY_BYTES:
        raise UsageError(
            "The signing secret of a webhook is not base64 of 24 to 64 bytes.",
            help='Make one: echo "whsec_$(openssl rand -base64 32)"',
        )
    moment = str(int(time.time()) if at is None else at)
    content = b".".join([id.encode("ascii"), moment.encode("ascii"), body])
    digest = hmac.new(raw, content, hashlib.sha256).digest()
    return {
        "webhook-id": id,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode('ascii')}",
    }


def _channel(name: str, table: Mapping[str, Any]) -> Channel:
    def wrong(what: str, help: str) -> UsageError:
        return UsageError(f"[tool.kitaru.notify.{name}]: {what}", help=help)

    check_name("channel", name)
    kind = table.get("kind")
    if kind not in _KINDS:
        raise wrong(f"kind is {kind!a}.", f"Use one of: {', '.join(_KINDS)}")
    on, flows = table.get("on", [*EVENTS]), table.get("flows", [])
    for one, allowed in ((on, EVENTS), (flows, None)):
        if not isinstance(one, list) or not all(isinstance(item, str) for item in one):
            raise wrong("on and flows are lists of strings.", 'flows = ["review", "billing-*"]')
        if allowed is not None and not {*one} <= {*allowed}:
            raise wrong(f"on contains {one!a}.", f"Use: {', '.join(allowed)}")
    links, hours = table.get("answer_links", False), table.get("link_hours", _LINK_HOURS)
    if type(links) is not bool or type(hours) is not int or not 0 < hours <= _MOST_HOURS:
        raise wrong(
            f"answer_links is true or false, and link_hours is 1 to {_MOST_HOURS}.",
            "answer_links = true",
        )
    if links and not (config.setting("link_key").value and config.setting("service_url").value):
        raise wrong("answer_links needs the settings link_key and service_url.", f"docs: {_DOCS}")
    needed, possible = _OPTIONS[kind]
    given = {key: value for key, value in table.items() if key not in _COMMON}
    if missing := needed - given.keys():
        raise wrong(f"{', '.join(sorted(missing))} is missing.", f"docs: {_DOCS}")
    if excess := given.keys() - needed - possible:
        raise wrong(f"{', '.join(sorted(excess))} does not apply to {kind}.", f"docs: {_DOCS}")
    made = Channel(name, kind, tuple(on), tuple(flows), links, hours, given)
    _check_options(made, wrong)
    return made


_DOCS = "docs/how-to/notifications.md"
_COMMON = frozenset({"kind", "on", "flows", "answer_links", "link_hours"})
_OPTIONS: dict[Any, tuple[frozenset[str], frozenset[str]]] = {
    "webhook": (frozenset({"signing_secret"}), frozenset({"url", "url_secret"})),
    "slack": (frozenset({"url_secret"}), frozenset()),
    "teams": (frozenset({"url_secret"}), frozenset()),
    "email": (frozenset({"url", "from", "to"}), frozenset({"password_secret"})),
}


def _check_options(made: Channel, wrong: Callable[[str, str], UsageError]) -> None:
    for key, value in made.options.items():
        if key != "to" and not (isinstance(value, str) and value):
            raise wrong(f"{key} must be a string.", f"docs: {_DOCS}")
    if made.kind == "webhook":
        if ("url" in made.options) == ("url_secret" in made.options):
            raise wrong("either url or url_secret is needed.", 'url = "https://…"')
        if "url" in made.options:
            _check_url(made.name, "url", made.options["url"], is_secret=False)
    if made.kind == "email":
        to = made.options["to"]
        if not isinstance(to, list) or not to:
            raise wrong("to must be a list of addresses.", 'to = ["team@example.com"]')
        for address in (made.options["from"], *to):
            if not _is_address(address):
                raise wrong(f"{address!a} is not an address.", "such as team@example.com")
        _smtp(made)


def _is_address(address: Any) -> bool:
    if not isinstance(address, str) or not address.isprintable() or "," in address:
        return False
    name, _, host = parseaddr(address)[1].rpartition("@")
    return bool(name and host)


def _check_url(name: str, key: str, url: str, *, is_secret: bool) -> SplitResult:
    """Return the parts of the URL of a webhook; raise UsageError without showing a secret."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"The channel {name} has no valid {key}.", help="https://HOST/PATH")
    if parts.username is not None:
        raise UsageError(
            f"The {key} of the channel {name} contains a password.", help="Use url_secret."
        )
    if is_secret and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise UsageError(
            f"The {key} of the channel {name} would be sent without encryption.",
            help="Use an https:// URL.",
        )
    return parts


def _secret(channel: Channel, key: str) -> str:
    name = channel.options[key]
    found = secrets.find(name)
    if not found:
        raise UsageError(
            f"The channel {channel.name} needs the secret {name}, which is not set here.",
            help=f"Set it: kitaru secrets set {name}",
        )
    return found


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a POST; raise Refused unless it is accepted. Redirects are not followed."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    sent = {"content-type": "application/json", "user-agent": f"kitaru/{VERSION}", **headers}
    try:
        with _refusing(), _limited(lambda: connection.sock):
            connection.request("POST", path, body, sent)
            answer = connection.getresponse()
            answer.read(_MOST_BYTES)
    finally:
        connection.close()
    if answer.status in _OK:
        return
    reason = f"HTTP status {answer.status}"
    if answer.status in _REDIRECT:
        reason += ": redirects are not followed"
    pause = _retry_after(answer.headers.get("retry-after", ""))
    raise Refused(reason, is_busy=answer.status in _BUSY, pause=pause)


def _retry_after(text: str) -> float:
    """Return the seconds of a Retry-After header: a number, or a date."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _smtp(channel: Channel) -> SplitResult:
    """Return the parts of the URL of a mail server."""
    try:
        parts = urlsplit(str(channel.options["url"]))
        is_url = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or parts.password is not None:
        raise UsageError(
            f"The channel {channel.name} has no valid url of a mail server.",
            help='url = "smtp://USER@HOST:587" or "smtps://USER@HOST", and password_secret',
        )
    if (parts.username is None) != ("password_secret" not in channel.options):
        raise UsageError(
            f"The channel {channel.name} needs both a user in url and password_secret, or neither.",
            help='url = "smtp://USER@HOST:587"',
        )
    return parts


def _mail(channel: Channel, message: Message) -> None:
    parts, to = _smtp(channel), tuple(channel.options["to"])
    host = parts.hostname or ""
    sender = channel.options["from"]
    domain = parseaddr(sender)[1].rpartition("@")[2]
    mail = messages.as_mail(message, sender, to, domain)
    password = _secret(channel, "password_secret") if parts.username is not None else ""
    context = ssl.create_default_context()
    server: smtplib.SMTP
    with _refusing():
        if parts.scheme == "smtps":
            server = smtplib.SMTP_SSL(host, parts.port or 465, timeout=_SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, parts.port or 587, timeout=_SECONDS)
        with server, _limited(lambda: server.sock):
            if parts.scheme == "smtp" and host not in _LOOPBACK:
                # Without it, texts and the password would be sent without encryption.
                server.starttls(context=context)
            if parts.username is not None:
                server.login(unquote(parts.username), password)
            server.send_message(mail)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what can happen to a connection into Refused."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        raise Refused(f"SMTP status {codes[0]}", is_busy=False) from error
    except smtplib.SMTPResponseException as error:
        is_busy = error.smtp_code in _MAIL_LATER
        raise Refused(f"SMTP status {error.smtp_code}", is_busy=is_busy) from error
    except (smtplib.SMTPException, http.client.HTTPException, OSError) as error:
        reason = redacted(str(error)) or "no answer"
        raise Refused(f"{type(error).__name__}: {reason}", is_busy=True) from error


@contextmanager
def _limited(connected: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Close the connection if the block takes too long: a limit per read does not suffice."""

    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        sock = connected()
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_ALL_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if is_over.is_set():
        # The end of the connection may look like the end of an answer.
        raise TimeoutError(f"the answer did not end within {_ALL_SECONDS:g} seconds")
