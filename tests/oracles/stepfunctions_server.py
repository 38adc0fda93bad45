"""moto's server with repairs of its state machine engine, which runs no task of ECS otherwise.

Parameters and responses of ECS and S3 are put into the case and the types of the SDK, where moto's
base class does nothing; a task that stopped with another exit code than 0 fails its state; each
attempt of a state that is retried has a token of its own; the start of an execution is a text; and
a container on Fargate need not name its memory.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import boto3
from moto.ecs.models import EC2ContainerServiceBackend
from moto.server import main
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

SERVICE = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service"
base, callback, ecs, resource = (
    import_module(f"{SERVICE}.{name}")
    for name in (
        "state_task_service",
        "state_task_service_callback",
        "state_task_service_ecs",
        "resource",
    )
)
StateTaskService = base.StateTaskService
StateTaskServiceCallback = callback.StateTaskServiceCallback
StateTaskServiceEcs = ecs.StateTaskServiceEcs


def operation(task: Any, service: str | None, action: str | None) -> Any:
    name = task._get_boto_service_name(service)
    model = boto3.client(name, region_name="us-east-1").meta.service_model
    wanted = task._get_boto_service_action(action).replace("_", "").lower()
    (found,) = [one for one in model.operation_names if one.lower() == wanted]
    return model.operation_model(found)


def as_request(value: Any, shape: Any) -> Any:
    """Return a value of a document with the names and types of the SDK."""
    if shape.type_name == "structure" and isinstance(value, dict):
        names = {name.lower(): name for name in shape.members}
        return {
            names[name.lower()]: as_request(item, shape.members[names[name.lower()]])
            for name, item in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [as_request(item, shape.member) for item in value]
    if shape.type_name == "blob":
        # Step Functions writes an object as JSON.
        return json.dumps(value).encode()
    return value


def parameters(
    self: Any, given: dict[str, Any], service: str | None = None, action: str | None = None
) -> None:
    if self.resource.service_name in ("ecs", "aws-sdk"):
        made = as_request(given, operation(self, service, action).input_shape)
        given.clear()
        given.update(made)


def response(self: Any, response: Any, **named: Any) -> None:
    service, action = named.get("boto_service_name"), named.get("service_action_name")
    if self.resource.service_name == "ecs":
        self._from_boto_response(response, operation(self, service, action).output_shape)
    elif hasattr((response or {}).get("Body"), "read"):
        response["Body"] = response["Body"].read().decode()


def resolver(self: Any, env: Any, **named: Any) -> Any:
    resolve = built(self, env, **named)

    def done() -> Any:
        task = resolve()
        reason = (task or {}).get("StoppedReason", "")
        if task is None or reason == "exit 0":
            return task
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
            error="States.TaskFailed",
            cause=reason,
        )
        raise FailureEventException(
            FailureEvent(
                env=env,
                error_name=StatesErrorName(typ=StatesErrorNameType.StatesTaskFailed),
                event_type=HistoryEventType.TaskFailed,
                event_details=EventDetails(taskFailedEventDetails=details),
            )
        )

    return done


def attempt(self: Any, env: Any) -> None:
    patterns = self._supported_integration_patterns
    if self._is_integration_pattern() and resource.ResourceCondition.WaitForTaskToken in patterns:
        env.callback_pool_manager.add(env.states.context_object.update_task_token())
    once(self, env)


def execution_data(**given: Any) -> dict[str, Any]:
    return {**given, "StartTime": given["StartTime"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"}


import_module("moto.stepfunctions.parser.backend.execution_worker").ExecutionData = execution_data


def requirements(task_definition: Any) -> dict[str, Any]:
    """Return what a container needs: on Fargate, its definition need not name its memory."""
    return {"CPU": 0, "MEMORY": 0, "PORTS": [], "PORTS_UDP": []}


EC2ContainerServiceBackend._calculate_task_resource_requirements = staticmethod(requirements)
built = StateTaskServiceEcs._build_sync_resolver
once = StateTaskServiceCallback._evaluate_with_timeout
StateTaskService._normalise_parameters = parameters
StateTaskService._normalise_response = response
StateTaskServiceEcs._build_sync_resolver = resolver
StateTaskServiceCallback._evaluate_with_timeout = attempt
main(sys.argv[1:])
