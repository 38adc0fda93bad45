"""Logging in with OpenID Connect: authorization code with PKCE, state and nonce, by Authlib.

What belongs to one attempt (state, nonce, verifier) is in a cookie of the browser that began it,
for ten minutes. So another browser cannot finish the attempt, and the service stores nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple

import httpx2
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.starlette_client import OAuth
from fastapi import Request
from fastapi.responses import Response
from joserfc.errors import JoseError

from kitaru.errors import EnvironmentFailure, RoleDenied, UsageError
from kitaru.ops.access import Grant

SECONDS = 600
_PLAIN = "kitaru_login"
_SECURE = "__Host-kitaru_login"
_LONGEST = 4_000
_SCOPES = "openid profile email"
# Settings besides the table of roles.
_NEEDED = ("issuer", "client_id")
_OPTIONAL = {"client_secret": "", "groups": "groups", "scopes": _SCOPES, "title": "OpenID Connect"}


class Person(NamedTuple):
    """A person who has logged in: the name in records, and what the groups allow."""

    name: str
    grants: tuple[Grant, ...]
    to: str


class OpenIDConnect:
    """A client of one provider."""

    def __init__(
        self, settings: Mapping[str, str], roles: Mapping[str, str], *, is_secure: bool
    ) -> None:
        """Take the settings `oidc` and `oidc_roles`; raise UsageError if one is not valid."""
        unknown = settings.keys() - {*_NEEDED, *_OPTIONAL}
        missing = [name for name in _NEEDED if not settings.get(name)]
        if unknown or missing:
            raise UsageError(
                f"The setting oidc has {'no ' + missing[0] if missing else 'unknown parts'}.",
                help='[tool.kitaru.oidc]\nissuer = "https://…"\nclient_id = "kitaru"',
            )
        self._given = {**_OPTIONAL, **settings}
        issuer = self._given["issuer"].rstrip("/")
        if not issuer.startswith(("https://", "http://localhost", "http://127.0.0.1")):
            raise UsageError(f"The issuer {issuer!a} is not reached by HTTPS.")
        self.title = self._given["title"]
        self._roles = {group: Grant.parse(text) for group, text in roles.items()}
        self._is_secure = is_secure
        self._cookie = _SECURE if is_secure else _PLAIN
        self._attributes = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")
        secret = self._given["client_secret"]
        self._issuer = self._given["issuer"]
        self._claims = {
            "iss": {"essential": True, "values": [issuer, f"{issuer}/"]},
            "aud": {"essential": True, "values": [self._given["client_id"]]},
        }
        self._client = OAuth().register(
            "provider",
            client_id=self._given["client_id"],
            client_secret=secret or None,
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": self._given["scopes"],
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": "client_secret_basic" if secret else "none",
                "timeout": 20,
            },
        )

    async def begin(self, request: Request, to: str) -> Response:
        """Return the redirection to the provider; `to` is the page to show afterwards."""
        session: dict[str, Any] = {}
        request.scope["session"] = session
        try:
            response: Response = await self._client.authorize_redirect(request, self._back(request))
        except (OAuthError, httpx2.HTTPError, RuntimeError, ValueError) as error:
            raise self._unreachable(error) from error
        text = base64.urlsafe_b64encode(json.dumps([session, to]).encode()).decode("ascii")
        response.headers["set-cookie"] = (
            f"{self._cookie}={text}; Max-Age={SECONDS}; {self._attributes}"
        )
        response.status_code = 303
        return response

    async def finish(self, request: Request) -> Person:
        """Return who has logged in.

        Raises:
            UsageError: the browser began no such attempt, or the provider refused.
            RoleDenied: none of the person's groups has a role.
            EnvironmentFailure: the provider does not answer.
        """
        request.scope["session"], to = self._attempt(request)
        try:
            # Authlib compares the state and the nonce with those of the attempt, and sends the
            # verifier of PKCE.
            token = await self._client.authorize_access_token(request, claims_options=self._claims)
            claims = await self._claimed(token)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        except (OAuthError, JoseError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"The login was not accepted: {str(error) or type(error).__name__}.",
                help="Begin again: /login",
            ) from error
        return self._person(claims, to)

    async def _claimed(self, token: Mapping[str, Any]) -> dict[str, Any]:
        """Return the claims of the identity token, with those that only `userinfo` has."""
        claims = dict(token.get("userinfo") or {})
        if not claims.get("sub"):
            raise ValueError("the provider sent no identity token")
        if self._given["groups"] not in claims:
            more = dict(await self._client.userinfo(token=token))
            if more.get("sub") != claims["sub"]:
                raise ValueError("the user information is that of somebody else")
            claims = {**more, **claims}
        return claims

    def forget(self) -> str:
        """Return the Set-Cookie header that removes the attempt."""
        return f"{self._cookie}=; Max-Age=0; {self._attributes}"

    def _person(self, claims: Mapping[str, Any], to: str) -> Person:
        subject = str(claims["sub"])
        shown = claims.get("email") if claims.get("email_verified") is not False else None
        shown = shown or claims.get("preferred_username") or claims.get("name") or ""
        name = f"{shown} ({subject})" if shown else subject
        groups = claims.get(self._given["groups"]) or []
        held = [groups] if isinstance(groups, str) else groups
        grants = [self._roles[one] for one in held if isinstance(one, str) and one in self._roles]
        if not grants:
            raise RoleDenied(
                f"{name} has logged in, and belongs to no group that has a role.",
                help="An admin sets the role of a group in [tool.kitaru.oidc_roles].",
            )
        return Person(name, tuple(grants), to)

    def _attempt(self, request: Request) -> tuple[dict[str, Any], str]:
        try:
            held = SimpleCookie(request.headers.get("cookie", "")).get(self._cookie)
            text = held.value if held is not None and len(held.value) < _LONGEST else ""
            session, to = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
            if isinstance(session, dict) and isinstance(to, str):
                return session, to
        except (CookieError, ValueError, TypeError):
            pass
        raise UsageError("This browser did not begin a login.", help="Begin again: /login")

    def _back(self, request: Request) -> str:
        scheme = "https" if self._is_secure else "http"
        # The guard has compared the host with the names of the service.
        return f"{scheme}://{request.headers['host']}/login/callback"

    def _unreachable(self, error: Exception) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"The provider {self._issuer} cannot be used: {error or type(error).__name__}.",
            help="Check the setting oidc of the service, and that the provider answers.",
        )
