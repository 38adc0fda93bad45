"""A store in a bucket of S3, Google Cloud Storage or Azure Blob Storage."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from datetime import timedelta
from functools import cache, partial
from importlib import import_module
from itertools import pairwise
from typing import Any, TypeVar

from kitaru.errors import (
    EnvironmentFailure,
    StoreDenied,
    StoreUnavailable,
    StoreUnsuitable,
    UsageError,
)
from kitaru.stores import azure_ml
from kitaru.stores.base import check_key, scan_listed, upper_bound
from kitaru.stores.worker_pool import Pool

T = TypeVar("T")

_MARKER = "kitaru-store"
_MARK = b"This prefix is a Kitaru store, and its bucket refuses a second create.\n"
# obstore reports a missing bucket in the same way as a missing key.
_NO_BUCKET = (
    "NoSuchBucket",
    "ContainerNotFound",
    "bucket does not exist",
    "container does not exist",
)
# S3 reports an expired token as a bad request. It reports a forbidden deletion as a successful
# request whose response body contains the error for each key.
_DENIED = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken", "code: AccessDenied")
# A value of the maximum size is uploaded or downloaded in one request.
_TIMEOUT = timedelta(minutes=5)
# Other responses start sooner. For an upload the time of the upload would count.
_SILENCE = timedelta(minutes=1)
_LARGE_BYTES = 1024 * 1024
_STATUS = re.compile(r"status code: (\d+)")
_TRIES = 5
# Pause before the second try. Each further pause is four times longer.
_PAUSE_SECONDS = 0.1
# A busy store sends a Retry-After, but obstore passes on no headers of an error. Pauses that are
# ten times longer add up to 85 seconds.
_BUSY = {"429", "503"}
_BUSY_TIMES = 10
_REQUESTS = 64
_CALLERS = 16
_CLOUDS = {
    "s3": ("S3Store", "AWS"),
    "gs": ("GCSStore", "GOOGLE"),
    "az": ("AzureStore", "AZURE"),
}


class ObjectStore:
    """Objects under a prefix of a bucket. The credentials come from the environment.

    Args:
        url: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.

    Raises:
        StoreUnsuitable: the bucket does not exist, or does not prevent overwrites.
        StoreDenied: the credentials are missing or insufficient.
        StoreUnavailable: the service did not respond, after retries.
        EnvironmentFailure: obstore is not installed.
    """

    remote = True

    def __init__(self, url: str) -> None:
        self.url = url
        self._obstore = _obstore()
        # Two pools, so that a caller that waits for requests never occupies a request thread.
        self._requests = Pool(_REQUESTS, "kitaru-store")
        self._callers = Pool(_CALLERS, "kitaru-together")
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.strip("/").partition("/")
        if not bucket or (prefix and not check_key(prefix)):
            raise UsageError(f"{url!a} names no bucket.", help=f"Use {scheme}://BUCKET/PREFIX.")
        self._store = self._translate_errors(
            lambda: _connect(scheme, bucket, prefix, read_timeout=_SILENCE)
        )
        self._slow_store = cache(lambda: _connect(scheme, bucket, prefix))
        self._probe()

    def create(self, key: str, value: bytes) -> bool:
        check_key(key)
        return self._with_retry(lambda: self._create(key, value))

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return _results([_started(self._requests, partial(self.create, *pair)) for pair in objects])

    def share(self, key: str, value: bytes, name: str, lifetime: timedelta) -> str | None:
        check_key(key)
        # The address is that of the bucket, where other pages may be served from, so a browser must
        # never show the file.
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Type": "application/octet-stream",
        }
        is_new = self._with_retry(lambda: self._create(key, value, headers))
        if not is_new and not self._with_retry(lambda: self._has(key, headers)):
            # Another program copied the object here, without its headers.
            return None
        try:
            return str(self._obstore.sign(self._store, "GET", key, lifetime))
        except (self._obstore.exceptions.BaseError, OSError, ValueError):
            # Credentials without a key, such as a token, cannot sign everywhere.
            return None

    def get(self, key: str) -> bytes | None:
        return self._with_retry(lambda: self._get(key))

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return _results([_started(self._requests, partial(self.get, key)) for key in keys])

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        started = [_started(self._callers, other) for other in others]
        try:
            return first()
        finally:
            _results(started)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        return self._with_retry(lambda: _keys(self._obstore, self._store, prefix, after, limit))

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return scan_listed(self, prefix)

    def delete(self, *keys: str) -> None:
        each = [partial(self._with_retry, partial(self._delete, key)) for key in keys]
        _results([_started(self._requests, one) for one in each])

    def inspect(self, prefix: str) -> None:
        """Do nothing: the service guarantees absence."""

    def flush(self) -> None:
        """Do nothing: each object is complete by itself."""

    def close(self) -> None:
        self._callers.drain()
        self._requests.drain()

    def _create(self, key: str, value: bytes, headers: dict[str, str] | None = None) -> bool:
        store = self._store if len(value) < _LARGE_BYTES else self._slow_store()
        try:
            # Use one PUT for every size: a multipart upload does not support create-only.
            self._obstore.put(
                store, key, value, mode="create", use_multipart=False, attributes=headers
            )
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def _get(self, key: str) -> bytes | None:
        try:
            return bytes(self._obstore.get(self._store, key).bytes())
        except (self._obstore.exceptions.NotFoundError, FileNotFoundError) as error:
            if _names(_NO_BUCKET, error):
                raise
            return None

    def _has(self, key: str, headers: dict[str, str]) -> bool:
        found = self._obstore.get(self._store, key).attributes
        return all(found.get(name) == value for name, value in headers.items())

    def _delete(self, key: str) -> None:
        try:
            self._obstore.delete(self._store, key)
        except (self._obstore.exceptions.NotFoundError, FileNotFoundError) as error:
            if _names(_NO_BUCKET, error):
                raise

    def _probe(self) -> None:
        if self.get(_MARKER) == _MARK:
            return
        self.create(_MARKER, _MARK)
        if self.create(_MARKER, b"overwritten") or self.get(_MARKER) != _MARK:
            raise StoreUnsuitable(
                f"{self.url} cannot be used as a store: it ignores conditional writes "
                "(If-None-Match).",
                help="Use a service that honours `If-None-Match: *` on PUT, such as S3, GCS, Azure "
                "Blob or a current MinIO.",
            )

    def _with_retry(self, operation: Callable[[], T]) -> T:
        # obstore does not repeat a conditional PUT that timed out. Repeating it is safe here: the
        # journal recognises its own bytes by their writer token.
        for waited in range(_TRIES - 1):
            try:
                return self._translate_errors(operation)
            except StoreUnavailable as error:
                time.sleep(_pause(error) * 4**waited)
        return self._translate_errors(operation)

    def _translate_errors(self, operation: Callable[[], T]) -> T:
        try:
            return operation()
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> EnvironmentFailure:
        kinds = self._obstore.exceptions
        what = str(error).partition("\n")[0]
        status = _status(error)
        denied = isinstance(error, kinds.PermissionDeniedError | kinds.UnauthenticatedError)
        if denied or status in {"401", "403"} or _names(_DENIED, error):
            return StoreDenied(
                f"The store {self.url} refused: {what}",
                help="Check that the credentials in the environment are right, have not expired, "
                "and may get, put, list and delete objects there. Without the right to list a "
                "bucket, S3 refuses to say that an object is absent.",
            )
        if status == "404" or isinstance(error, kinds.NotFoundError | FileNotFoundError):
            return StoreUnsuitable(
                f"The store {self.url} has no such bucket or container: {what}",
                help="Create it first; Kitaru never makes buckets.",
            )
        return StoreUnavailable(
            f"The store {self.url} {'is too busy' if status in _BUSY else 'fails'}, however often "
            f"it is asked: {what}",
            help="That may pass, and nothing recorded is lost. When it answers again:\n"
            "kitaru executions resume EXEC",
        )


def _started(pool: Pool, work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def settle() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    pool.submit(settle)
    return future


def _results(started: Sequence[Future[T]]) -> list[T]:
    wait(started)
    return [one.result() for one in started]


def _pause(error: StoreUnavailable) -> float:
    """Return the first pause with up to half of it added at random: other writers wait, too."""
    longer = _BUSY_TIMES if _status(error) in _BUSY else 1
    return _PAUSE_SECONDS * longer * random.SystemRandom().uniform(1, 1.5)


def _status(error: Exception) -> str:
    # obstore has no error class for a failed list.
    found = _STATUS.search(str(error))
    return found[1] if found else ""


def _names(codes: Sequence[str], error: Exception) -> bool:
    return any(code in str(error) for code in codes)


def _keys(obstore: Any, store: Any, prefix: str, after: str, limit: int | None) -> list[str]:
    folder, _, begun = prefix.rpartition("/")
    if len(begun) > 1 and after < prefix:
        # obstore lists whole folders. An offset skips most of the earlier keys in this folder.
        after = prefix[:-1]
    found: list[str] = []
    for page in obstore.list(store, folder or None, offset=after or None):
        found += [item["path"] for item in page]
        if limit is not None and _settled(found, prefix, limit):
            break
    # Directory buckets of S3 do not list in byte order.
    ordered = sorted(key for key in found if key.startswith(prefix) and key > after)
    return ordered if limit is None else ordered[:limit]


def _settled(found: Sequence[str], prefix: str, limit: int) -> bool:
    """Return whether later pages cannot contain any of the first `limit` keys of a prefix."""
    if not all(a < b for a, b in pairwise(found)):
        return False
    over = bool(found) and found[-1] >= upper_bound(prefix)
    return over or sum(key.startswith(prefix) for key in found) >= limit


def _connect(scheme: str, bucket: str, prefix: str, **limits: timedelta) -> Any:
    name, variables = _CLOUDS[scheme]
    options = {
        "timeout": _TIMEOUT,
        "connect_timeout": "10s",
        **limits,
        # Client options set here replace the environment variable that obstore would read
        # otherwise.
        "allow_http": os.environ.get(f"{variables}_ALLOW_HTTP", "").lower() in {"1", "true"},
    }
    # Kitaru retries after a pause. obstore would retry at once, even if the store is overloaded.
    once = {"max_retries": 0}
    make = getattr(import_module("obstore.store"), name)
    job = azure_ml.provider() if scheme == "az" else None
    credentials = {"credential_provider": job} if job else {}
    return make(
        bucket, prefix=prefix or None, client_options=options, retry_config=once, **credentials
    )


def _obstore() -> Any:
    try:
        module = import_module("obstore")
        import_module("obstore.exceptions")
    except ImportError as error:
        raise EnvironmentFailure(
            "Stores in a bucket need obstore, which is not installed.",
            help="Install it: pip install 'obstore>=0.8'",
        ) from error
    return module
