"""The interface of a target: profile, emitter, validation and submission."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kitaru_compiler.cut.profile import Profile

from kitaru.wire.plan import Plan, Span
from kitaru.wire.records import ExecutionRecord

if TYPE_CHECKING:
    from kitaru_targets.dry_run.process import Machine
    from kitaru_targets.local.process import Process as LocalProcess


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """How a step's container starts, the same for every step of a document.

    Attributes:
        image: the container image; empty if it is set at submission.
        command: replaces the entry point of the container.
        leading: arguments before those of the step runtime.
        store: the store URL that is known at compile time; empty if it is set at submission.
        environment: plain environment variables of every container.
        execution: the execution that the document resumes, if any.
        bundle: the key of a bundle that the target's service must copy to `Transport.folder`;
            empty if a step fetches its code, or already has it.
    """

    image: str
    command: tuple[str, ...]
    leading: tuple[str, ...]
    store: str
    environment: Mapping[str, str]
    execution: str = ""
    bundle: str = ""


@dataclass(frozen=True, slots=True)
class Transport:
    """How code and inputs reach a step of a target.

    `image` is the one used when none is named, empty when the target takes no public one. `folder`
    is where the target's service puts the bundle, empty when it brings nothing and a step fetches
    it. `inline` shows whether a document may hold the bundle. A text of more than `longest_input`
    characters travels through the store, and so does an empty one unless `takes_empty`, and the
    longest of those that have more than `longest_together` bytes, where that is not 0.
    `encoded` means that texts are percent-encoded, because the target puts them into other text.
    `local` means that steps without an image are processes of the service's own machine, which may
    reach a store in a file.
    """

    image: str = "python:3.11-slim"
    folder: str = ""
    inline: bool = True
    longest_input: int = 2_000
    longest_together: int = 0
    takes_empty: bool = True
    encoded: bool = False
    local: bool = False


@dataclass(frozen=True, slots=True)
class Emission:
    """The native document as text, and what its nodes are: `steps` by key, `groups` with spans.

    `asks` are the keys of those groups at which a run stays open until a wait is answered.
    """

    text: str
    steps: Mapping[str, str]
    groups: Mapping[str, Span]
    asks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Submitted:
    """What the target called the run, and where to look at it.

    `notes` are what its starter should know. `process` is the run itself where the target is this
    machine.
    """

    run_id: str
    url: str
    notes: tuple[str, ...] = ()
    process: LocalProcess | None = None


class Execute(Protocol):
    """Executes a document on this machine by its target's rules, each step a process of `machine`.

    `given` are the parameters of the run by name, and the run is called `run_id`. Raises InputError
    when one is missing or unknown. What failed is in `machine.failures`.
    """

    def __call__(
        self, text: str, given: Mapping[str, Any], run_id: str, machine: Machine
    ) -> None: ...


class Submit(Protocol):
    """Starts a run of a compiled document on the real service."""

    def __call__(
        self, document: str, parameters: Mapping[str, Any], options: Mapping[str, str]
    ) -> Submitted: ...


class Answered(Protocol):
    """Tells the service that a wait was answered; False when no run of the execution waits for it.

    The answer itself is in the journal already. Raises EnvironmentFailure when the service could
    not be told, with what to do then.
    """

    def __call__(
        self, record: ExecutionRecord, wait: str, value: Any, options: Mapping[str, str]
    ) -> bool: ...


class Cancelled(Protocol):
    """Ends the runs of a cancelled execution on the service; False when they have ended."""

    def __call__(self, record: ExecutionRecord, options: Mapping[str, str]) -> bool: ...


@dataclass(frozen=True, slots=True)
class Target:
    """An orchestrator's back end.

    `document` is the file name of what `emit` writes, `validate` lists what is wrong with such a
    text (empty when nothing is), `execute` is the dry run of one, `guide` makes the text of
    DEPLOY.md from what `kitaru_targets.build` knows. `submit` takes the path of the document,
    native parameter values and the service's own options. `answered` is there where a run that
    waits is still one of the service's, `cancelled` where a run can be ended.
    `submitted_name` is the option that names what the service keeps of a document, empty where each
    run brings its own. `run_option` is the option that names a run, such that a second one of that
    name is not started. `connection` names the settings without which the service cannot be told of
    answers, such as `url`, which is `KITARU_AIRFLOW_URL`. `runs_whole` means that the flow is one
    step, whatever granularity is asked for.
    """

    name: str
    title: str
    profile: Profile
    document: str
    emit: Callable[[Plan, ContainerSpec], Emission]
    validate: Callable[[str], list[str]]
    submit: Submit
    execute: Execute
    guide: Callable[[Mapping[str, Any]], str]
    transport: Transport
    answered: Answered | None = None
    cancelled: Cancelled | None = None
    submitted_name: str = ""
    run_option: str = ""
    connection: tuple[str, ...] = ()
    runs_whole: bool = False
