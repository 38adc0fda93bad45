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
# So that no power of it is too large for a float.
_LARGEST_FACTOR, _LONGEST_CHAIN = 100.0, 150


class Policy(Struct):
    """How often and when a checkpoint is tried; a field that is None takes what the flow says.

    `retries` counts attempts after the first. `delay` is in seconds, before the first retry, and
    each further one waits `backoff` times longer, at most an hour. `on` are the exceptions after
    which it is retried. `timeout` is the seconds that one attempt may take.
    """

    retries: int | None = None
    delay: float | None = None
    backoff: float | None = None
    on: tuple[type[Exception], ...] | None = None
    timeout: float | None = None

    def with_defaults(self, flow: Policy) -> Policy:
        """Return this policy with what it leaves open filled in from the flow's."""

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
        """Return whether no attempt follows the last of so many failed ones by itself.

        `final` says that another attempt would not help. Otherwise only the number decides, and it
        keeps counting after a `retry`. So every process agrees on the last attempt.
        """
        return final or attempts % (1 + (self.retries or 0)) == 0

    def retries_on(self, error: BaseException) -> bool:
        """Whether an exception is one after which to try again."""
        return isinstance(error, self.on or ())

    def pause(self, attempt: int, chance: float) -> float:
        """Return the seconds to wait after a failed attempt, the longest where `chance` is 0.

        `chance` from 0 to 1 takes away up to half of them, so that many that failed together do
        not come again together.
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
    """Return the policy of a decorator's options; `where` is the decorator, for messages.

    Raises:
        UsageError: an option is wrong.
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
    """Return a random number from 0 to 1; `random` would cost a millisecond to import."""
    return int.from_bytes(os.urandom(4)) / 2**32


def bounded(work: Callable[[], T], seconds: float, name: str) -> T:
    """Return what `work` returns, run on a thread of its own; raises what it raises.

    Raises:
        CheckpointTimeout: it took longer. Its thread continues, but its result is dropped.
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
        raise CheckpointTimeout(
            f"The checkpoint {name} took longer than its timeout of {seconds:g} s.",
            help="Increase timeout=…, or set a shorter time limit for the calls that it makes.",
        )
    value, error = ended[0]
    if error is not None:
        raise error
    return cast(T, value)


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
