"""The interface of a target: profile, emitter, validation and submission."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from kitaru_compiler.cut.profile import Profile

from kitaru.errors import EnvironmentFailure
from kitaru.wire.cron import Catchup, Overlap
from kitaru.wire.plan import Plan, Span, Step
from kitaru.wire.records import ExecutionRecord
from kitaru.wire.structs import Struct, field
from kitaru_targets.common.options import Option

if TYPE_CHECKING:
    from kitaru_targets.dry_run.process import Machine
    from kitaru_targets.local.process import Process as LocalProcess


class About(Struct):
    """Texts for the readers of a document, each on one line.

    `header` states the origin of the document. `steps` is, by step, its place in the source and
    what it does. `blocks` is the same for each place of the source with a durable call, in source
    order, for a document that has no node for each of them.
    """

    header: tuple[str, ...] = ()
    steps: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()

    def step(self, step: Step) -> str:
        """Return the text of a step; its place in the source if there is no other text."""
        return self.steps.get(step.name, f"{step.span.file}:{step.span.line}")


class ContainerSpec(Struct):
    """The start of a step's container, the same for every step of a document.

    Attributes:
        image: the container image; empty if it is set at submission.
        command: replaces the entry point of the container.
        leading: arguments before those of the step runtime.
        store: the store URL that is known at compile time; empty if it is set at submission.
        environment: plain environment variables of every container.
        execution: the execution that the document resumes, if any.
        bundle: the key of a bundle that the target's service must copy to `Transport.folder`;
            empty if a step fetches its code, or already has it.
        about: the texts for the readers of the document.
    """

    image: str
    command: tuple[str, ...]
    leading: tuple[str, ...]
    store: str
    environment: Mapping[str, str]
    execution: str = ""
    bundle: str = ""
    about: About = field(default_factory=About)


class Transport(Struct):
    """How a target delivers code and inputs to a step.

    `image` is the default image, empty if the target accepts no public image. `folder` is the
    folder to which the target's service copies the bundle, empty if each step fetches it. With
    `beside` the service copies the whole build to the working directory of each step, and the
    program of that name there starts it. `inline`
    is true if a document may contain the bundle. Some texts are passed through the store: those of
    more than `longest_input` characters, empty ones unless `takes_empty`, those with `{{`
    unless `takes_braces`, and the longest ones if all together exceed `longest_together` bytes
    (0: no limit). `encoded` means that texts are percent-encoded, because the target inserts
    them into other text. `local` means that steps without an image are processes of the
    service's own machine, which may reach a store in a file. `pods` means that steps with an
    image are pods, which may have secrets of Kubernetes.
    """

    image: str = "python:3.11-slim"
    folder: str = ""
    beside: str = ""
    inline: bool = True
    longest_input: int = 2_000
    longest_together: int = 0
    takes_empty: bool = True
    takes_braces: bool = True
    encoded: bool = False
    local: bool = False
    pods: bool = False


class Form(Struct):
    """A document as data, and the function that writes it: what an override changes."""

    data: Any
    dump: Callable[[Any], str]

    def text(self) -> str:
        """Return the document as text."""
        return self.dump(self.data)


class Emission(Struct):
    """The native document as text, with its nodes: `steps` by key, `groups` with spans.

    `asks` are the keys of the groups at which a run stays open until a wait is answered. `files`
    are the texts of other files that the document refers to, by name. `form` is the document as
    data, and `forms` are those of other files; without them, a project cannot override anything.
    """

    text: str
    steps: Mapping[str, str]
    groups: Mapping[str, Span]
    asks: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    form: Form | None = None
    forms: Mapping[str, Form] = field(default_factory=dict)


class Submitted(Struct):
    """A submitted run: its name on the target, and where to inspect it.

    `notes` are hints for the caller. `process` is the run itself if the target is this machine.
    """

    run_id: str
    url: str
    notes: tuple[str, ...] = ()
    process: LocalProcess | None = None


class Execute(Protocol):
    """Runs a document on this machine by its target's rules, each step as a process of `machine`.

    `given` are the parameters of the run by name. The run is called `run_id`. Raises InputError if
    a parameter is missing or unknown. Failures are in `machine.failures`.
    """

    def __call__(
        self, text: str, given: Mapping[str, Any], run_id: str, machine: Machine
    ) -> None: ...


class Submit(Protocol):
    """Starts a run of a compiled document on the real service."""

    def __call__(
        self, document: str, parameters: Mapping[str, Any], options: Mapping[str, str]
    ) -> Submitted: ...


class NotReached(EnvironmentFailure):
    """A run is open on the service, and has not reached the wait that has its answer."""


class Answered(Protocol):
    """Notifies the service of an answer; returns False if no run of the execution waits for it.

    The answer itself is already in the journal. `looks` is how often to look whether the run has
    reached the wait, with a second between two looks. Raises NotReached if it has not, and
    EnvironmentFailure, with the next step, if the service cannot be notified.
    """

    def __call__(
        self,
        record: ExecutionRecord,
        wait: str,
        value: Any,
        options: Mapping[str, str],
        looks: int = ...,
    ) -> bool: ...


class Cancelled(Protocol):
    """Ends the runs of a cancelled execution on the service; returns False if they have ended."""

    def __call__(self, record: ExecutionRecord, options: Mapping[str, str]) -> bool: ...


class HasEnded(Protocol):
    """Returns whether a run has ended on the service, which reports it clearly.

    `run` is the run's name as `submit` returned it, or as its steps have it. Raises
    EnvironmentFailure if the service does not answer.
    """

    def __call__(self, run: str, options: Mapping[str, str]) -> bool: ...


class Schedules(Struct):
    """What a service can do that starts runs by schedule itself.

    `name` is what the service calls its schedule, and `file` the file of a build that contains it.
    `overlap` and `catchup` are the policies of `@flow` that it follows. With `ends_at_waits`, a run
    ends at a wait, so that the service does not notice that its execution has not ended.
    """

    name: str
    file: str
    overlap: tuple[Overlap, ...]
    catchup: tuple[Catchup, ...]
    ends_at_waits: bool = False


class Target(Struct):
    """The back end for an orchestrator.

    `document` is the file name of the output of `emit`, and `further` are those of its further
    documents. `validate` lists the faults of such a text (empty if it is valid). `execute` is its
    dry run. `guide` writes the text of DEPLOY.md from the data of `kitaru_targets.build`. `submit`
    takes the path of the document, native parameter values and the service's own options.
    `answered` is set if a waiting run stays open on the service, `cancelled` if a run can be ended,
    `has_ended` if its end can be read. `submitted_name` is the option that names the part of a
    document that the service stores, empty if each run brings its own document. `run_option` is the
    option that names a run so that a second run of that name is not started. `connection` are the
    settings required to notify the service of answers, such as `url`, which is
    `KITARU_AIRFLOW_URL`. `runs_whole` means that the flow is one step at any granularity.
    `answered_by_token` means that `answered` finds the token of a waiting run in the `store`, one
    of its options. `unit` is what a step becomes, in the words of the orchestrator. `starts`
    returns how many containers of a plan start in a row at most, and how many of them find nothing
    to do; without it, conditions start only the steps of the path. `limits_runs` is how a document
    says how many runs of a flow there are at once, empty if it cannot. `schedules` is what the
    service can do that starts runs by schedule, None if it does not. `options` are those of
    `[tool.kitaru.NAME]` in pyproject.toml.
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
    has_ended: HasEnded | None = None
    submitted_name: str = ""
    run_option: str = ""
    connection: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    runs_whole: bool = False
    answered_by_token: bool = False
    unit: str = "container"
    starts: Callable[[Plan], tuple[int, int]] | None = None
    schedules: Schedules | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    limits_runs: str = ""
