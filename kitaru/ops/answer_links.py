"""Links with which a person without an account answers one question.

A link contains the execution, the wait, the number of the answer and a time, and is signed with the
secret that the setting `link_key` names. Without that setting there are no links. The store
contains neither a link nor the key, so a reader of the bucket cannot make one.

A link ends at its time, and earlier when an answer is recorded, when the wait has expired or was
cancelled, and when the execution has ended or failed. After a rejected answer, the next one has
another number, and needs another link.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import TYPE_CHECKING

from kitaru.config import setting
from kitaru.errors import NotFound, StateError, UsageError
from kitaru.runtime import secrets
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.limits import MAX_NAME_CHARACTERS
from kitaru.wire.structs import Struct
from kitaru.wire.times import later, now

if TYPE_CHECKING:
    from kitaru.stores.base import Store
    from kitaru.wire.records import WaitRequest

# What the key signs for. Nothing else that is signed begins with it.
_PURPOSE = b"kitaru answer link 1\0"
_SHORTEST_SECRET = 32
_LONGEST_TOKEN = 2_048


class AnswerLink(Struct):
    """What a link allows: the answer `number` of a wait, until `expires`.

    `to` is the channel that it was sent to, which the answer and the audit log name.
    """

    exec_id: str
    wait: str
    number: int
    expires: str
    to: str

    @property
    def actor(self) -> str:
        """Who answers, for records."""
        return f"link ({self.to})"[:MAX_NAME_CHARACTERS]


def link_key() -> bytes | None:
    """Return the key of links, None if the settings allow no links.

    Raises:
        UsageError: the secret is missing or too short.
        EnvironmentFailure: it cannot be read.
    """
    name = setting("link_key").value
    if name is None:
        return None
    found = secrets.find(name) or ""
    if len(found) < _SHORTEST_SECRET:
        raise UsageError(
            f"The secret {name}, which signs links, is missing or shorter than "
            f"{_SHORTEST_SECRET} characters.",
            help=f"openssl rand -hex 32 | kitaru secrets set {name}",
        )
    return hashlib.sha256(_PURPOSE + found.encode("utf-8", "surrogateescape")).digest()


def make_token(key: bytes, link: AnswerLink) -> str:
    """Return the signed text of a link, which is a part of its address."""
    content = [link.exec_id, link.wait, link.number, link.expires, link.to]
    body = json.dumps(content, separators=(",", ":")).encode("ascii")
    return f"{_text(body)}.{_text(_signature(key, body))}"


def read_token(key: bytes, token: str) -> AnswerLink:
    """Return what a signed text allows.

    Raises:
        NotFound: nobody with the key has signed it.
        StateError: its time is over.
    """
    body_text, _, signature_text = token.partition(".")
    try:
        body, signature = _bytes(body_text), _bytes(signature_text)
    except ValueError:
        body = signature = b""
    is_signed = hmac.compare_digest(signature, _signature(key, body))
    # A text has one form only, so that a link is one address.
    if not is_signed or f"{_text(body)}.{_text(signature)}" != token or not body:
        raise NotFound("This link is not valid.", help="Open it as it was sent to you.")
    exec_id, wait, number, expires, to = json.loads(body)
    if expires <= now():
        raise StateError("This link has expired.", help="Ask for another one.")
    return AnswerLink(exec_id, wait, number, expires, to)


def link_for(
    key: bytes, exec_id: str, request: WaitRequest, number: int, *, to: str, hours: int
) -> str:
    """Return the signed text of a link for a question, which expires no later than its wait."""
    expires = later(now(), hours * 3_600.0)
    expires = min(expires, request.deadline) if request.deadline else expires
    return make_token(key, AnswerLink(exec_id, request.name, number, expires, to))


def linked_question(store: Store, link: AnswerLink) -> tuple[Journal, WaitRequest]:
    """Return the question of a link.

    Raises:
        StateError: the question needs no answer any more, or not the one of the link.
        EnvironmentFailure: the store cannot be read.
    """
    over = StateError("This question needs no answer any more.", help="Nothing is left to do.")
    try:
        journal = Journal.open(store, link.exec_id)
    except NotFound:
        raise over from None
    journal.inspect()
    request = journal.wait_request(link.wait)
    is_open = (
        request is not None
        and request.kind == "question"
        and journal.end() is None
        and journal.invocation(link.wait) is None
        and journal.next_answer(link.wait) == link.number
        and journal.wait_answer(link.wait) is None
        and journal.state().status != "failed"
    )
    if not is_open or request is None:
        raise over
    return journal, request


def _signature(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + body, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    """Return the bytes of a text; raise ValueError if it is not base64 of a possible length."""
    if len(text) > _LONGEST_TOKEN or not text.isascii():
        raise ValueError(text)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error
