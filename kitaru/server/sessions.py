"""Sessions of a browser, for a service with a token. The service stores none of them.

A person enters the token once. The cookie then contains an expiry and its signature with the
token's digest, so every process that has the token accepts it, and a new token ends all sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie

SECONDS = 12 * 3600
_PLAIN = "kitaru_session"
# Browsers accept this name only over HTTPS, for the whole host, and never from a subdomain.
_SECURE = "__Host-kitaru_session"


class Sessions:
    """Issues and checks the sessions of one token."""

    def __init__(self, token: str, *, is_secure: bool) -> None:
        """Take the token; `is_secure` is whether browsers reach the service over HTTPS."""
        self._token = digest(token)
        self._name = _SECURE if is_secure else _PLAIN
        self._attributes = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token, in the same time for every text."""
        return hmac.compare_digest(digest(given.strip()), self._token)

    def issue(self) -> str:
        """Return the value of the Set-Cookie header that begins a session."""
        expiry = str(int(time.time()) + SECONDS)
        value = f"{expiry}.{self._signature(expiry)}"
        return f"{self._name}={value}; Max-Age={SECONDS}; {self._attributes}"

    def end(self) -> str:
        """Return the value of the Set-Cookie header that ends a session."""
        return f"{self._name}=; Max-Age=0; {self._attributes}"

    def accepts(self, cookies: str) -> bool:
        """Return whether a Cookie header contains a session that has not ended."""
        try:
            held = SimpleCookie(cookies).get(self._name)
        except CookieError:
            return False
        expiry, _, signature = (held.value if held is not None else "").partition(".")
        if not (expiry.isascii() and expiry.isdecimal() and signature.isascii()):
            return False
        is_signed = hmac.compare_digest(signature, self._signature(expiry))
        return is_signed and int(expiry) > time.time()

    def _signature(self, expiry: str) -> str:
        text = f"session until {expiry}".encode()
        return hmac.new(self._token, text, hashlib.sha256).hexdigest()


def digest(token: str) -> bytes:
    """Return the digest of a token. Digests have one length, which comparisons need."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
