"""Start runs and deliver answers on AWS Step Functions with boto3, which is imported only here.

Written against boto3 1.44, and tested against moto. It was never run against the real service.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.stores import open_store
from kitaru.wire.canonical import sha256
from kitaru.wire.records import ExecutionRecord
from kitaru_targets import lock
from kitaru_targets.base import NotReached, Submitted
from kitaru_targets.common import aws
from kitaru_targets.common import parameters as names
from kitaru_targets.common.node_names import slug
from kitaru_targets.common.options import parts
from kitaru_targets.stepfunctions import emit
from kitaru_targets.stepfunctions.profile import MAX_NAME, TASK_DEFINITION

# The option for the name of an execution, which the service accepts only once.
RUN_OPTION = "once"
NAME_OPTION = "state_machine"
ANSWERED_BY_TOKEN = True
_ROLES = {"task_role": "taskRoleArn", "execution_role": "executionRoleArn"}
_PLACES = ("cluster", "subnets", "security_groups")
_OPTIONS = frozenset({"role", "region", NAME_OPTION, RUN_OPTION, *_ROLES, *_PLACES})
_LOOKS = 30
_AGAIN = (
    "The run looks for the answer by itself after its timeout. To continue it now, give the same "
    "answer again."
)
# The service has forgotten the token: the run has ended, or has looked for the answer itself.
_GONE = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Create or update the state machine of the document at path `document`, and start it.

    The task definition beside the document is registered as a new revision, and the run uses that
    revision.

    Options: `role` (ARN; the state machine runs as it), `region`, `state_machine` (its name;
    default: the flow's name), and those that `[tool.kitaru.stepfunctions]` has, too: `task_role`,
    `execution_role`, `cluster`, `subnets` and `security_groups`. `once` is the name of the
    execution: the same name addresses the same run.

    Raises:
        UsageError: an option is unknown, the role is missing, or the store is not in S3.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    aws.check("stepfunctions", "Step Functions", parameters, options, _OPTIONS)
    session = aws.session("Step Functions", options)
    try:
        return _started(session, Path(document), parameters, options)
    except Exception as error:
        raise EnvironmentFailure(f"Step Functions did not start the run: {error}") from error


def answered(
    record: ExecutionRecord,
    wait: str,
    value: Any,
    options: Mapping[str, str],
    looks: int = _LOOKS,
) -> bool:
    """Continue the run that waits for an answer; return False if no run waits.

    The run is only notified: its next step reads the answer from the journal. `options` contains
    the URL of the `store`, in which the waiting run has put its token. Account and region are those
    of the environment, as for the AWS command line.

    Raises:
        EnvironmentFailure: the SDK is missing, or the service refused. The answer is recorded.
    """
    del value
    gone: set[str] = set()
    failed = "The answer is recorded, but Step Functions was not notified"
    with _connected(_run_of(record), failed) as client:
        for look in range(looks):
            if look:
                time.sleep(1)
            token = _token(options["store"], record.exec_id, wait)
            if token is None or token in gone:
                # Otherwise it has not reached the state that waits.
                if not any(_open_runs(client, record)):
                    return False
            elif _sent(client, token):
                return True
            else:
                gone.add(token)
    raise NotReached(
        f"The answer is recorded, but no state of the run has waited for it in {looks} s.",
        help=_AGAIN,
    )


def _token(url: str, exec_id: str, wait: str) -> str | None:
    store = open_store(url)
    try:
        data = store.get(token_key(exec_id, wait))
    finally:
        store.close()
    try:
        return None if data is None else str(json.loads(data)["token"])
    except (ValueError, KeyError, TypeError):
        return None  # Not what the service has written.


def _sent(client: Any, token: str) -> bool:
    """Continue the state with this token; return False if the service has forgotten the token."""
    try:
        client.send_task_success(taskToken=token, output="{}")
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in _GONE:
            raise
        return False
    return True


def token_key(exec_id: str, wait: str) -> str:
    """Return the key below which a waiting run puts its token."""
    return f"native/tokens/{exec_id}/{wait}.json"


def cancelled(record: ExecutionRecord, options: Mapping[str, str]) -> bool:
    """Stop the runs of an execution; return False if none is open.

    Raises the EnvironmentFailure of `answered`; the execution is cancelled anyway.
    """
    del options
    failed = "The execution is cancelled, but not its run on Step Functions"
    with _connected(_run_of(record), failed) as client:
        runs = list(_open_runs(client, record))
        for run in runs:
            reason = f"{record.exec_id} is cancelled"
            client.stop_execution(executionArn=run, error="Kitaru.Cancelled", cause=reason)
    return bool(runs)


def has_ended(run: str, options: Mapping[str, str]) -> bool:
    """Return whether a run has ended, or the service has no such run.

    `options` is ignored. Raises EnvironmentFailure if the SDK is missing or the service refused.
    """
    del options
    arn = _arn_of(run)
    with _connected(arn, "Step Functions did not say whether a run has ended") as client:
        return not _is_running(client, arn)


def _is_running(client: Any, run: str) -> bool:
    try:
        found = client.describe_execution(executionArn=run)
    except client.exceptions.ExecutionDoesNotExist:
        return False  # The service keeps ended runs for 90 days.
    return bool(found["status"] == "RUNNING")


def _run_of(record: ExecutionRecord) -> str:
    """Return the ARN of the first run of an execution."""
    return _arn_of(record.run)


def _arn_of(run: str) -> str:
    """Return the ARN of a run, which its steps call `machine/start/ARN`."""
    return run.rpartition("/")[2]


def _open_runs(client: Any, record: ExecutionRecord) -> Iterator[str]:
    """Yield the open runs of an execution: its first run, and those of the remaining steps."""
    first = _run_of(record)
    if _is_running(client, first):
        yield first
    machine = first.replace(":execution:", ":stateMachine:", 1).rpartition(":")[0]
    rest = f"{machine.rpartition(':')[0]}:{_name(f'{record.flow}-{record.exec_id}')}"
    for arn in dict.fromkeys((machine, rest)):
        pages = client.get_paginator("list_executions")
        try:
            found = [
                one["executionArn"]
                for page in pages.paginate(stateMachineArn=arn, statusFilter="RUNNING")
                for one in page["executions"]
            ]
        except client.exceptions.StateMachineDoesNotExist:
            continue
        for run in found:
            given = json.loads(client.describe_execution(executionArn=run)["input"])
            if run != first and given.get(names.EXECUTION) == record.exec_id:
                yield run


@contextmanager
def _connected(run: str, failed: str) -> Iterator[Any]:
    """Yield a client for the region of a run; its errors become EnvironmentFailures."""
    boto3 = aws.boto3("Step Functions")
    parts = run.split(":")
    try:
        region = {"region_name": parts[3]} if len(parts) > 3 else {}
        yield boto3.Session(**region).client("stepfunctions")
    except NotReached:
        raise
    except Exception as error:
        raise EnvironmentFailure(
            f"{failed}: {error}",
            help=_AGAIN,
        ) from error


def _started(
    session: Any, document: Path, parameters: Mapping[str, Any], options: Mapping[str, str]
) -> Submitted:
    flow = lock.read(document.parent).flow
    definition = document.read_text(encoding="utf-8")
    client = session.client("stepfunctions")
    machine = _machine(client, flow, definition, options)
    given = dict(parameters)
    given |= emit.place(str(parameters[names.STORE])) if names.STORE in parameters else {}
    given[emit.TASK] = _registered(session.client("ecs"), document.parent, options)
    for option in _PLACES:
        if option in options:
            text = options[option]
            given[f"kitaru_{option}"] = text if option == "cluster" else [*parts(text)]
    given = {name: value for name, value in given.items() if value != "" or not emit.is_own(name)}
    named = {"name": _name(options[RUN_OPTION])} if RUN_OPTION in options else {}
    text = json.dumps(given, sort_keys=True)
    try:
        run = client.start_execution(stateMachineArn=machine, input=text, **named)["executionArn"]
    except client.exceptions.ExecutionAlreadyExists:
        # The name has been used, so this run was started before.
        run = f"{machine.replace(':stateMachine:', ':execution:', 1)}:{named['name']}"
    return Submitted(run, _page(run))


def _machine(client: Any, flow: str, definition: str, options: Mapping[str, str]) -> str:
    """Create the state machine or update it; return its ARN."""
    name = _name(options.get(NAME_OPTION) or slug(flow, fallback="flow"))
    made = {"definition": definition, "roleArn": options["role"]}
    try:
        tags = [{"key": "kitaru:flow", "value": slug(flow, fallback="flow")}]
        return str(client.create_state_machine(name=name, **made, tags=tags)["stateMachineArn"])
    except client.exceptions.StateMachineAlreadyExists:
        pages = client.get_paginator("list_state_machines").paginate()
        (arn,) = [
            one["stateMachineArn"]
            for page in pages
            for one in page["stateMachines"]
            if one["name"] == name
        ]
        client.update_state_machine(stateMachineArn=arn, **made)
        return str(arn)


def _registered(client: Any, folder: Path, options: Mapping[str, str]) -> str:
    """Register the task definition; return the ARN of its revision."""
    definition = json.loads((folder / TASK_DEFINITION).read_text(encoding="utf-8"))
    definition |= {field: options[name] for name, field in _ROLES.items() if name in options}
    made = client.register_task_definition(**definition)["taskDefinition"]
    return str(made["taskDefinitionArn"])


def _name(text: str) -> str:
    """Return a name that the service accepts; a longer one ends with its digest."""
    if len(text) <= MAX_NAME:
        return text
    digest = sha256(text.encode()).removeprefix("sha256:")[:12]
    return f"{text[: MAX_NAME - 13]}-{digest}"


def _page(run: str) -> str:
    """Return the page of a run in the console."""
    region = run.split(":")[3]
    console = f"https://{region}.console.aws.amazon.com/states/home?region={region}"
    return f"{console}#/v2/executions/details/{run}"
