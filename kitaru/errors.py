"""The errors that Kitaru raises, and the exit code of each.

    KitaruError                     base of all errors below; never raised itself
    ├── UsageError                  exit 2: the call or the command is wrong
    │   ├── ContextError            a primitive was called where it is not allowed
    │   ├── InputError              a flow input is missing, unknown or of the wrong type
    │   └── PickleRefused           a recorded value contains a pickle that may not be loaded
    ├── FlowError                   exit 1: the flow failed, or its source has errors
    │   ├── CheckpointFailed        a checkpoint raised, and nothing caught it
    │   ├── CheckpointTimeout       an attempt of a checkpoint took longer than its timeout
    │   ├── ValueNotEncodable       a value cannot be recorded
    │   │   └── ValueTooLarge       it is larger than a value may be
    │   ├── ArgumentChanged         a checkpoint changed one of its arguments
    │   ├── ModelAnswerInvalid      a model's answer does not match the schema or the tools
    │   ├── ModelRequestError       a model's provider rejected the request, or did not answer
    │   ├── WaitExpiredError        a wait without a default was not answered by its deadline
    │   ├── Diverged                non-deterministic replay: another call than was recorded
    │   ├── ClassChanged            a recorded value does not match its changed class
    │   └── SourceError             the compiler found errors; carries the diagnostics
    ├── StateError                  exit 2: the execution is not in a state that allows this
    │   ├── NotFound                no such execution, wait, artifact or block
    │   ├── WaitConflict            the wait was answered differently before
    │   ├── MemoryConflict          the newest version of a memory is not the expected one
    │   └── WaitTimeout             `handle.wait(timeout)` elapsed; the run continues
    ├── AnswerInvalid               exit 2: the answer does not match the schema; still waiting
    └── EnvironmentFailure          exit 3: store, target or credentials
        ├── StoreUnavailable        the store did not answer, after retries
        ├── StoreDenied             the store rejected the credentials
        ├── StoreUnsuitable         the store ignores create-if-absent, or does not exist
        ├── RecordCorrupt           a stored object is damaged
        └── RecordTooNew            written by a newer Kitaru

Every error has a message that states the problem and its cause, and a `help` with the next step.
"""

from __future__ import annotations

from kitaru import hints
from kitaru.hints import NextStep


class KitaruError(Exception):
    """Base class of all errors that Kitaru raises on purpose.

    `help` contains one or more lines with what to do next, often with a command to paste. It may be
    empty. `exit_code` is the exit code of the command line.

    A layer that does not know the command line sets `next_step` instead, for the execution
    `exec_id` in the store `store_url`, or for the deployed flow `flow`. `kitaru.hints` renders it
    as the end of `help`.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        help: str = "",
        next_step: NextStep = "",
        store_url: str = "",
        exec_id: str = "",
        flow: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.store_url = store_url
        self.exec_id = exec_id
        self.flow = flow
        step = hints.next_step(next_step, store_url=store_url, exec_id=exec_id, flow=flow)
        self.help = " ".join(filter(None, (help, step)))

    def __str__(self) -> str:
        return f"{self.message}\n{self.help}" if self.help else self.message


class UsageError(KitaruError):
    """The call or the command is wrong."""

    exit_code = 2


class ContextError(UsageError):
    """A primitive was used where it has no meaning, such as a wait inside a checkpoint."""


class InputError(UsageError):
    """A flow input is missing, unknown or of the wrong type."""


class PickleRefused(UsageError):
    """A recorded value contains a pickle, and loading pickles is not allowed here."""


class FlowError(KitaruError):
    """The flow failed."""


class CheckpointFailed(FlowError):
    """A checkpoint raised, and nothing caught it. `__cause__` is the user's exception."""


class CheckpointTimeout(FlowError, TimeoutError):
    """An attempt of a checkpoint took longer than its `timeout`. Its later result is dropped."""


class ChildFailed(FlowError):
    """A child execution failed or was cancelled; its parent waited for its result.

    `child` is the id of its execution, `status` is `failed` or `cancelled`.
    """

    def __init__(self, message: str, *, child: str, status: str, help: str = "") -> None:
        super().__init__(message, help=help)
        self.child = child
        self.status = status


class ValueNotEncodable(FlowError):
    """A value cannot be recorded exactly. `path` is its path inside the outer value."""

    def __init__(self, message: str, *, path: str = "", help: str = "") -> None:
        super().__init__(message, help=help)
        self.path = path


class ValueTooLarge(ValueNotEncodable):
    """A value is too large to be recorded. `path` is the path of its largest part."""


class ArgumentChanged(FlowError):
    """A checkpoint changed one of its arguments, which a later step would not see."""


class ModelAnswerInvalid(FlowError):
    """Two answers of a model did not match the schema or the tools."""


class ModelRequestError(FlowError):
    """A model's provider rejected the request or did not answer, after the retries of the call.

    The error is the same for every provider and library. `status` is the HTTP status, or None
    without a response. `tries` is the number of requests.

    Example:
        @checkpoint(retries=3, retry_delay=30, retry_on=kitaru.errors.ModelRequestError)
        def research(topic: str) -> str:
            return kitaru.llm(f"Research: {topic}.")
    """

    def __init__(self, message: str, *, status: int | None = None, help: str = "") -> None:
        super().__init__(message, help=help)
        self.status = status
        self.tries = 1


class BudgetExceeded(FlowError):
    """A model call was not made: the execution, or its flow today, has used its budget."""


class Diverged(FlowError):
    """Non-deterministic replay: the flow calls something else than was recorded."""


class ClassChanged(FlowError):
    """A recorded value does not match its class, which has changed since it was recorded.

    The record is intact: restore the class, give new fields a default, or declare `kitaru.moved` or
    `kitaru.migrate`, then resume.
    """


class StateError(KitaruError):
    """The execution is not in a state that allows the operation."""

    exit_code = 2


class NotFound(StateError):
    """There is no such execution, wait or artifact."""


class WaitConflict(StateError):
    """The wait was answered before, with another value."""


class WaitExpiredError(FlowError):
    """The deadline of a wait passed without an answer, and the wait has no default.

    It is raised at the wait, in the body of the flow, which may catch it.

    Example:
        try:
            approved = kitaru.wait(name="approve", deadline=timedelta(days=2))
        except kitaru.errors.WaitExpiredError:
            approved = False
    """


class MemoryConflict(StateError):
    """The newest version of a memory is not the expected one.

    `version` is the newest version, or 0 if the key has no value.
    """

    def __init__(self, message: str, *, version: int, help: str = "") -> None:
        super().__init__(message, help=help)
        self.version = version


class WaitTimeout(StateError, TimeoutError):
    """`handle.wait(timeout)` elapsed. The execution continues."""


class AnswerInvalid(KitaruError):
    """The answer does not match the wait's schema. The wait is still pending."""

    exit_code = 2


class EnvironmentFailure(KitaruError):
    """The store, the target or the credentials failed, not the flow."""

    exit_code = 3


class StoreUnavailable(EnvironmentFailure):
    """The store did not answer, after retries."""


class StoreDenied(EnvironmentFailure):
    """The store rejected the credentials."""


class RoleDenied(EnvironmentFailure):
    """The role of a token or a person does not allow the operation on a service."""


class StoreUnsuitable(EnvironmentFailure):
    """The store ignores create-if-absent, or its bucket or table does not exist."""


class RecordCorrupt(EnvironmentFailure):
    """A stored object is damaged."""


class RecordTooNew(EnvironmentFailure):
    """A stored object was written by a newer Kitaru. Upgrade to read it."""


# The names of Kitaru 0.21 and earlier.

KitaruUsageError = UsageError
KitaruContextError = ContextError
KitaruStateError = StateError
KitaruTimeoutError = WaitTimeout
KitaruRuntimeError = FlowError
KitaruExecutionError = FlowError
KitaruUserCodeError = FlowError
KitaruAmbiguousFlowResultError = FlowError
KitaruDivergenceError = Diverged
KitaruWaitValidationError = AnswerInvalid
KitaruBackendError = EnvironmentFailure
KitaruLogRetrievalError = EnvironmentFailure
KitaruFeatureNotAvailableError = UsageError
