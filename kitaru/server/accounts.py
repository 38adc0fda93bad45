"""Who sends a request: the token of the environment, a token of the store, a session of a browser.

A person who logs in gets a session, which is a token of the store that expires after 12 hours. All
processes of the service accept it, and logging out, or revoking its token, ends it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from kitaru.ops.access import ADMIN, Grant, Principal
from kitaru.ops.tokens import (
    add_token,
    check_token,
    end_session,
    remove_expired_sessions,
)
from kitaru.stores.base import Store
from kitaru.wire.actors import acting_as
from kitaru.wire.records import TokenRecord

SESSION = timedelta(hours=12)
# A revoked token is accepted for at most this long.
SECONDS_UNTIL_CHECKED = 5.0
_MOST_KNOWN = 1_000
_PLAIN = "kitaru_session"
# Browsers accept this name only over HTTPS, for the whole host, and never from a subdomain.
_SECURE = "__Host-kitaru_session"


class _Known(NamedTuple):
    principal: Principal
    id: str
    checked: float


class Accounts:
    """The accounts of a service."""

    def __init__(self, store: Store, token: str | None, *, is_secure: bool) -> None:
        """Take the token of the environment; `is_secure`: browsers reach the service by HTTPS."""
        self._store = store
        self._token = token
        self._digest = None if token is None else _digest(token, False)
        self._known: dict[bytes, _Known] = {}
        self._cookie = _SECURE if is_secure else _PLAIN
        self._attributes = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")

    def known(self, authorization: str, cookies: str) -> Principal | None:
        """Return who sends these headers if that was checked a moment ago, else None."""
        found = self._known.get(_digest(*self._sent(authorization, cookies)))
        is_fresh = found is not None and time.monotonic() - found.checked < SECONDS_UNTIL_CHECKED
        return found.principal if found is not None and is_fresh else None

    def find(self, authorization: str, cookies: str) -> Principal | None:
        """Return who sends these headers, None if their token or session is not valid.

        It reads the store.
        """
        return self._principal(*self._sent(authorization, cookies))

    def log_in(self, text: str) -> str | None:
        """Begin a session with a token; return the Set-Cookie header, None for a wrong token."""
        text = text.strip()
        caller = self._principal(text, False)
        known = self._known.get(_digest(text, False))
        if caller is None or known is None:
            return None
        sealed = self._token or "" if not known.id else ""
        return self.begin(caller.name, caller.grants, parent=known.id, sealed=sealed)

    def begin(
        self, name: str, grants: Sequence[Grant], *, parent: str = "", sealed: str = ""
    ) -> str:
        """Begin a session; return the value of the Set-Cookie header."""
        remove_expired_sessions(self._store)
        with acting_as(name):
            made = add_token(
                self._store, name, grants, SESSION, is_session=True, parent=parent, sealed=sealed
            )
        age = int(SESSION.total_seconds())
        return f"{self._cookie}={made.secret}; Max-Age={age}; {self._attributes}"

    def log_out(self, cookies: str) -> str:
        """End a session; return the value of the Set-Cookie header."""
        text = self._session(cookies)
        record = check_token(self._store, text, sealed=self._token or "")
        if record is not None and record.is_session:
            end_session(self._store, record.id)
        self._known.pop(_digest(text, True), None)
        return f"{self._cookie}=; Max-Age=0; {self._attributes}"

    def _sent(self, authorization: str, cookies: str) -> tuple[str, bool]:
        """Return the token that was sent, and whether it must be a session."""
        if authorization:
            scheme, _, text = authorization.partition(" ")
            return (text.strip() if scheme.lower() == "bearer" else ""), False
        return self._session(cookies), True

    def _session(self, cookies: str) -> str:
        try:
            held = SimpleCookie(cookies).get(self._cookie)
        except CookieError:
            return ""
        return held.value if held is not None else ""

    def _principal(self, text: str, is_session: bool) -> Principal | None:
        digest = _digest(text, is_session)
        if self._digest is not None and hmac.compare_digest(digest, self._digest):
            found = _Known(Principal("http with token", (Grant(ADMIN),)), "", time.monotonic())
        else:
            record = check_token(self._store, text, sealed=self._token or "")
            if record is None or record.is_session != is_session:
                self._known.pop(digest, None)
                return None
            found = _Known(_principal(record), record.id, time.monotonic())
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[digest] = found
        return found.principal


def _principal(record: TokenRecord) -> Principal:
    # A session has the name of who logged in, which contains the token already.
    name = record.name if record.is_session else f"{record.name} (token {record.id})"
    return Principal(name, tuple(map(Grant.from_dict, record.grants)))


def _digest(text: str, is_session: bool) -> bytes:
    """Return a digest of a token. Digests have one length, which comparisons need."""
    kind = "session" if is_session else "token"
    return hashlib.sha256(f"{kind} {text}".encode("utf-8", "surrogateescape")).digest()
