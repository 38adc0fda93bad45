"""The compiler's profile of Azure ML pipelines, and the limits of a document."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Schedules, Transport
from kitaru_targets.common.limits import Limits, Machine
from kitaru_targets.common.options import Option, several

COMPUTE, ENVIRONMENT, IDENTITY, SECONDS = "compute", "environment", "identity", "max_seconds"
MACHINE, TAGS = "instance_type", "tags"
OPTIONS = {
    COMPUTE: Option(
        "the name of a compute of the workspace; left out, steps run serverless",
        r"[A-Za-z][A-Za-z0-9-]{1,31}",
    ),
    ENVIRONMENT: Option(
        "an environment of the workspace, of conda or of an image: azureml:NAME:VERSION, or "
        "azureml:NAME@latest",
        r"azureml:[A-Za-z0-9][A-Za-z0-9_.-]{0,254}(:[A-Za-z0-9_.-]{1,30}|@latest)",
    ),
    IDENTITY: Option("managed, user_identity or aml_token", "managed|user_identity|aml_token"),
    MACHINE: Option(
        "the size of the machine of serverless steps that ask for no resources: Standard_DS3_v2",
        r"(Standard|Basic)_[A-Za-z0-9_]{1,40}",
    ),
    TAGS: Option(
        "tags of the pipeline: KEY=VALUE, KEY=VALUE",
        several(r"[A-Za-z0-9_.:/+@-]{1,128}=[A-Za-z0-9_.:/+@-]{0,256}"),
    ),
    SECONDS: Option("how long a step may run, in seconds: a whole number", "[1-9][0-9]{0,6}"),
}

# The schedule starts the document in the same folder.
DOCUMENT, SCHEDULE = "pipeline.yaml", "schedule.yaml"
SCHEDULES = Schedules("a schedule of Azure ML", SCHEDULE, ("allow",), ("none",))

# What a step becomes, in the words of the orchestrator.
UNIT = "command job"

PROFILE = Profile(
    name="azureml",
    # Control nodes are a private preview.
    branches=False,
    # A job has no field for retries.
    retry="shim",
    waits="suspended",
    max_depth=1,
    start_seconds=(60, 120),
    # Each step takes about 4 KB.
    max_steps=800,
)

# A command is a shell line, into which the service inserts texts unchanged.
TRANSPORT = Transport(
    beside="kitaru_start.py", encoded=True, longest_input=4_096, takes_empty=False
)

# Ordered from the cheapest to the most expensive, per kind.
_MACHINES = (
    Machine("Standard_DS2_v2", 2, 7, 0),
    Machine("Standard_DS3_v2", 4, 14, 0),
    Machine("Standard_E4s_v3", 4, 32, 0),
    Machine("Standard_DS4_v2", 8, 28, 0),
    Machine("Standard_E8s_v3", 8, 64, 0),
    Machine("Standard_DS5_v2", 16, 56, 0),
    Machine("Standard_E16s_v3", 16, 128, 0),
    Machine("Standard_E32s_v3", 32, 256, 0),
    Machine("Standard_E64s_v3", 64, 432, 0),
    Machine("Standard_NC4as_T4_v3", 4, 28, 1),
    Machine("Standard_NC8as_T4_v3", 8, 56, 1),
    Machine("Standard_NC16as_T4_v3", 16, 110, 1),
    Machine("Standard_NC64as_T4_v3", 64, 440, 4),
    Machine("Standard_ND96asr_v4", 96, 900, 8),
)

LIMITS = Limits(
    title="Azure ML",
    # Azure Resource Manager accepts no larger request.
    document=4 * 1024 * 1024,
    machines=_MACHINES,
)
