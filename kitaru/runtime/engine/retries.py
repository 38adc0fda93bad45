"""Retry policies for checkpoints, and the time limit of an attempt."""

from __future__ import annotations

import contextvars
import math
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from kitaru.errors import CheckpointTimeout, UsageError
from kitaru.wire.structs import Struct

T = TypeVar("T")

RetryOn = type[Exception] | tuple[type[Exception], ...]

LONGEST_DELAY = 3600.0
# Limits that keep every power of the factor within the range of a float.
_LARGEST_FACTOR, _LONGEST_CHAIN = 100.0, 150


class Policy(Struct):
    """Retry policy of a checkpoint. A field that is None uses the flow's setting.

    `retries` is the number of attempts after the first. `delay` is the pause in seconds before the
    first retry. Each further pause is `backoff` times longer, up to one hour. `on` are the
    exceptions that are retried. `timeout` is the time limit of one attempt in seconds.
    """

    retries: int | None = None
    delay: float | None = None
    backoff: float | None = None
    on: tuple[type[Exception], ...] | None = None
    timeout: float | None = None

    def with_defaults(self, flow: Policy) -> Policy:
        """Return this policy with unset fields filled in from the flow's policy."""

        def first(*options: Any) -> Any:
            return next((option for option in options if option is not None), None)

        return Policy(
            retries=first(self.retries, flow.retries, 0),
            delay=first(self.delay, flow.delay, 0.0),
            backoff=first(self.backoff, flow.backoff, 2.0),
            on=first(self.on, flow.on, (Exception,)),
            timeout=first(self.timeout, flow.timeout),
        )

    def is_exhausted(self, attempts: int, *, final: bool) -> bool:
        """Return whether no automatic attempt follows after that many failed attempts.

        `final` means that another attempt would not help. Otherwise only the number decides, and it
        keeps counting after a `retry`. All processes therefore agree on the last attempt.
        """
        return final or attempts % (1 + (self.retries or 0)) == 0

    def retries_on(self, error: BaseException) -> bool:
        """Return whether the policy retries after this exception."""
        return isinstance(error, self.on or ())

    def pause(self, attempt: int, chance: float) -> float:
        """Return the pause in seconds after a failed attempt; it is longest if `chance` is 0.

        `chance` ranges from 0 to 1 and shortens the pause by up to half, so that calls that failed
        together do not retry together.
        """
        number = min((attempt - 1) % (1 + (self.retries or 0)), _LONGEST_CHAIN)
        longest = (self.delay or 0.0) * (self.backoff or 1.0) ** number
        return min(longest, LONGEST_DELAY) * (1 - chance / 2)


INHERITED = Policy()
ONCE = Policy(retries=0)


def policy(
    where: str,
    retries: int | None,
    retry_delay: float | None,
    backoff: float | None,
    retry_on: RetryOn | None,
    timeout: float | None = None,
) -> Policy:
    """Build the policy from the options of a decorator. Messages name the decorator as `where`.

    Raises:
        UsageError: an option is not valid.
    """
    if retries is not None and (type(retries) is not int or retries < 0):
        raise UsageError(
            f"retries={retries!r} is not a number of attempts after the first.",
            help="Use 0 or a positive whole number.",
        )
    _check_number(where, "retry_delay", retry_delay, (0, LONGEST_DELAY), "0 to 3600 seconds")
    _check_number(where, "backoff", backoff, (1, _LARGEST_FACTOR), "a factor from 1 to 100")
    _check_number(where, "timeout", timeout, (0, math.inf), "seconds, more than 0")
    if timeout == 0:
        raise UsageError(f"{where}: timeout=0 leaves no time.", help="Leave it out for no limit.")
    return Policy(retries, retry_delay, backoff, _exceptions(where, retry_on), timeout)


def chance() -> float:
    """Return a random number from 0 to 1. Importing `random` would take a millisecond."""
    return int.from_bytes(os.urandom(4)) / 2**32


def bounded(work: Callable[[], T], seconds: float, name: str) -> T:
    """Run `work` on a thread of its own; return its value or raise its exception.

    Raises:
        CheckpointTimeout: `work` exceeded the time limit. Its thread continues, but its result is
            dropped.
    """
    context = contextvars.copy_context()
    ended: list[tuple[Any, BaseException | None]] = []
    over = threading.Event()

    def attempt() -> None:
        try:
            ended.append((context.run(work), None))
        except BaseException as error:
            ended.append((None, error))
        over.set()

    threading.Thread(target=attempt, name=f"kitaru-{name}", daemon=True).start()
    if not over.wait(seconds):
        raise timed_out(name, seconds)
    value, error = ended[0]
    if error is not None:
        raise error
    return cast(T, value)


def timed_out(name: str, seconds: float) -> CheckpointTimeout:
    """Return the error of a call that exceeded its time limit."""
    return CheckpointTimeout(
        f"The checkpoint {name} took longer than its timeout of {seconds:g} s.",
        help="Increase timeout=…, or set a shorter time limit for the calls that it makes.",
    )


def _check_number(
    where: str, name: str, value: float | None, between: tuple[float, float], what: str
) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (number and math.isfinite(value) and between[0] <= value <= between[1]):
        return
    raise UsageError(f"{where}: {name}={value!r} is not {what}.")


def _exceptions(where: str, given: RetryOn | None) -> tuple[type[Exception], ...] | None:
    if given is None:
        return None
    classes = given if isinstance(given, tuple) else (given,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            raise UsageError(
                f"{where}: retry_on={given!r} is not an exception class, or a tuple of some.",
                help="For example retry_on=(ConnectionError, TimeoutError).",
            )
    return classes
