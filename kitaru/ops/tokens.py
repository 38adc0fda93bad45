"""Tokens of the HTTP API: create, list, revoke and check them.

A token is `kit_ID_SECRET`. The store contains the digest of it, which is of no use to a reader of
the store: the secret has 256 random bits. Records are created if absent, and a revocation is a
record of its own, so that it cannot be undone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kitaru.errors import NotFound, UsageError
from kitaru.ops.access import Grant
from kitaru.runtime.journal.audit import audited
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.actors import actor
from kitaru.wire.limits import MAX_NAME_CHARACTERS
from kitaru.wire.records import TokenRecord, TokenRevoked
from kitaru.wire.structs import Struct, fields_of
from kitaru.wire.times import later, now

if TYPE_CHECKING:
    from kitaru.stores.base import Store

_TOKEN = re.compile(r"kit_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_MOST_FLOWS = 100


class Token(Struct):
    """A token, without its secret.

    Attributes:
        id: the public part.
        prefix: how the token begins, `kit_ID`.
        name: what answers and audit entries name.
        grants: what it may do.
        created_at, created_by: when, and by whom it was created.
        expires_at: from when on it is refused; empty for never.
        revoked_at, revoked_by: empty unless it was revoked.
        is_session: whether it is the session of a person who logged in.
    """

    id: str
    name: str
    grants: tuple[Grant, ...]
    created_at: str
    created_by: str
    expires_at: str = ""
    revoked_at: str = ""
    revoked_by: str = ""
    is_session: bool = False

    @property
    def prefix(self) -> str:
        """How the token begins."""
        return f"kit_{self.id}"

    @property
    def state(self) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= now() else "valid"

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> Token:
        """Return the token that `to_dict` wrote."""
        fields = {name: document[name] for name in Token.__match_args__}
        return Token(**{**fields, "grants": tuple(map(Grant.from_dict, document["grants"]))})

    def to_dict(self) -> dict[str, Any]:
        """Return the token as JSON."""
        grants = [grant.to_dict() for grant in self.grants]
        return {**fields_of(self), "grants": grants, "prefix": self.prefix, "state": self.state}


class CreatedToken(Struct):
    """A new token. `secret` is the whole token, which is stored nowhere."""

    secret: str
    token: Token


def create_token(
    store: Store,
    name: str,
    role: str,
    *,
    flows: Sequence[str] = (),
    expires: timedelta | None = None,
) -> CreatedToken:
    """Create a token of the HTTP API. Only the result contains it.

    Args:
        name: what answers and audit entries name, such as `ci`.
        role: `viewer`, `approver`, `operator` or `admin`.
        flows: names of flows, or patterns such as `billing-*`. Default: all flows.
        expires: how long it is valid. Default: until it is revoked.

    Raises:
        UsageError: the name, the role or a flow is not valid, or the time is not positive.
        EnvironmentFailure: the store cannot be written.

    Example:
        create_token(store, "ci", "operator", flows=["review"]).secret
    """
    grant = Grant.of(role, flows)
    if not name.strip() or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise UsageError(f"{name!a} cannot be the name of a token.", help="such as `ci`")
    if len(flows) > _MOST_FLOWS:
        raise UsageError(f"A token has at most {_MOST_FLOWS} flows.", help="Use a pattern.")
    if expires is not None and expires <= timedelta():
        raise UsageError("A token expires after it is created.", help="--expires 90d")
    with audited(store, "create token", f"{name} ({grant})"):
        return add_token(store, name, [grant], expires)


def add_token(
    store: Store,
    name: str,
    grants: Sequence[Grant],
    expires: timedelta | None,
    *,
    is_session: bool = False,
    parent: str = "",
    sealed: str = "",
) -> CreatedToken:
    """Store a token, or a session that began with `parent` or with the environment's `sealed`."""
    at = now()
    until = later(at, expires.total_seconds()) if expires is not None else ""
    while True:
        id = secrets.token_hex(6)
        secret = f"kit_{id}_{secrets.token_urlsafe(32)}"
        record = TokenRecord(
            id, _digest(secret), name, tuple(grant.to_dict() for grant in grants), at, actor(),
            until, is_session, parent, seal(secret, sealed) if sealed else "",
        )  # fmt: skip
        if RecordStore(store).try_create(keys.token(id), record):
            return CreatedToken(secret, _token(record, None))


def list_tokens(store: Store, *, sessions: bool = False) -> list[Token]:
    """Return the tokens, the oldest first; `sessions` adds the sessions of people.

    Raises:
        EnvironmentFailure: the store cannot be read.
    """
    record_store = RecordStore(store)
    found = record_store.read_all(TokenRecord, store.list(keys.tokens()))
    found = [one for one in found if sessions or not one.is_session]
    places = [keys.token_revoked(one.id) for one in found]
    revoked = {one.id: one for one in record_store.read_all(TokenRevoked, places)}
    tokens = [_token(one, revoked.get(one.id)) for one in found]
    return sorted(tokens, key=lambda one: (one.created_at, one.id))


def revoke_token(store: Store, named: str) -> Token:
    """Revoke a token, and the sessions that began with it. Revoking it again changes nothing.

    Args:
        named: its id, its prefix `kit_ID`, the whole token, or its name if only one has it.

    Raises:
        NotFound: there is no such token.
        UsageError: several tokens that are valid have that name.
        EnvironmentFailure: the store cannot be written.

    Example:
        revoke_token(store, "ci")
    """
    id = _id_of(store, named)
    record_store = RecordStore(store)
    record = record_store.read(TokenRecord, keys.token(id))
    assert record is not None
    with audited(store, "revoke token", f"{record.name} (kit_{id})"):
        made = record_store.write(keys.token_revoked(id), TokenRevoked(id, now(), actor()))
    return _token(record, made)


def end_session(store: Store, id: str) -> None:
    """Revoke the session of a person who logs out."""
    RecordStore(store).write(keys.token_revoked(id), TokenRevoked(id, now(), actor()))


def remove_expired_sessions(store: Store) -> None:
    """Delete the records of sessions that have expired."""
    for one in list_tokens(store, sessions=True):
        if one.is_session and one.state == "expired":
            store.delete(keys.token(one.id), keys.token_revoked(one.id))


def check_token(store: Store, text: str, *, sealed: str = "") -> TokenRecord | None:
    """Return the record of a token that is valid now, else None.

    `sealed` is the token of the environment, with which a session may have begun.
    """
    match = _TOKEN.fullmatch(text)
    if match is None:
        return None
    record = _valid(store, match[1])
    if record is None or not hmac.compare_digest(record.digest, _digest(text)):
        return None
    if record.seal and not (sealed and hmac.compare_digest(record.seal, seal(text, sealed))):
        return None
    if record.parent and _valid(store, record.parent) is None:
        return None
    return record


def seal(secret: str, sealed: str) -> str:
    """Return what only a session and the token that it began with have in common.

    It is keyed with the session's secret, so a reader of the store cannot try tokens with it.
    """
    key = secret.encode("utf-8")
    return hmac.new(key, sealed.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def _valid(store: Store, id: str) -> TokenRecord | None:
    record_store = RecordStore(store)
    record = record_store.read(TokenRecord, keys.token(id))
    if record is None or (record.expires_at and record.expires_at <= now()):
        return None
    return None if store.get(keys.token_revoked(id)) is not None else record


def _id_of(store: Store, named: str) -> str:
    tokens = list_tokens(store, sessions=True)
    match = _TOKEN.fullmatch(named)
    id = match[1] if match else named.removeprefix("kit_")
    if any(one.id == id for one in tokens):
        return id
    found = [one for one in tokens if one.name == named and not one.is_session]
    valid = [one for one in found if one.state == "valid"] or found[-1:]
    if not valid:
        raise NotFound("There is no such token.", help="kitaru tokens list")
    if len(valid) > 1:
        ids = ", ".join(one.id for one in valid)
        raise UsageError(f"{len(valid)} tokens have the name {named}.", help=f"Name an id: {ids}")
    return valid[0].id


def _token(record: TokenRecord, revoked: TokenRevoked | None) -> Token:
    return Token(
        record.id, record.name, tuple(map(Grant.from_dict, record.grants)), record.at, record.by,
        record.expires_at, revoked.at if revoked else "", revoked.by if revoked else "",
        record.is_session,
    )  # fmt: skip


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"
