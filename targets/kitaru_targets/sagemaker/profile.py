"""The compiler's profile of SageMaker Pipelines, and the limits of a document."""

from __future__ import annotations

import re
from dataclasses import replace

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Transport
from kitaru_targets.common import aws, schedules
from kitaru_targets.common.limits import Limits, Machine
from kitaru_targets.common.options import Option

MAX_STEP_NAME = 64
MAX_PIPELINE_NAME = 256
MAX_DESCRIPTION = 3_072
# For one argument, and for the name and the value of one variable.
MAX_TEXT = 256
MAX_ARGUMENTS = 100
# Limits of a ForEach: the length of its list, and the number of concurrent iterations.
MAX_ITEMS = 100
MAX_CONCURRENCY = 50

# The folder into which the service puts a job's inputs, and from which it reads outputs.
FOLDER = "/opt/ml/processing"

QUEUE, ROLE, SECONDS, VOLUME = "queue", "role", "max_seconds", "volume_gigabytes"
SCHEDULER_ROLE = "scheduler_role"
_ARN_OF_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,200}"
MACHINE, VOLUME_KEY, OUTPUT_KEY = "instance_type", "volume_kms_key", "output_kms_key"
_NUMBER = r"[1-9][0-9]{0,6}"
OPTIONS = {
    QUEUE: Option(
        "the URL of an SQS queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
        r"https://sqs\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[0-9]{12}/[A-Za-z0-9_-]{1,80}(\.fifo)?",
    ),
    ROLE: Option(
        "the ARN of the role that steps run as: arn:aws:iam::ACCOUNT:role/NAME",
        _ARN_OF_ROLE,
    ),
    SCHEDULER_ROLE: Option("the ARN of the role with which a schedule starts runs", _ARN_OF_ROLE),
    SECONDS: Option("how long a step may run, in seconds: a whole number", _NUMBER, 777_600),
    VOLUME: Option("the size of a step's disk in gigabytes: a whole number", _NUMBER, 16_384),
    MACHINE: Option(
        "the instance type of steps that ask for no resources: ml.FAMILY.SIZE",
        r"ml\.[a-z0-9-]{1,16}\.[a-z0-9]{1,16}",
    ),
    VOLUME_KEY: replace(
        aws.KEY,
        meaning=f"{aws.KEY.meaning}; machines with a disk of their own take none, and encrypt it",
    ),
    OUTPUT_KEY: aws.KEY,
    **aws.NETWORK,
    aws.TAGS: aws.TAG,
}

SCHEDULES = schedules.AWS

# Instances with a local disk, which the hardware encrypts. The service refuses a key for them.
HAS_OWN_DISK = re.compile(r"ml\.(?:g4dn|g5|g6e?|p4de?|p5e?n?|[a-z][0-9][a-z]*d[a-z]*)\.")

# What a step becomes, in the words of the orchestrator.
UNIT = "processing job"

PROFILE = Profile(
    name="sagemaker",
    # A step can depend neither on a condition nor on a step of a branch that was not taken.
    branches=False,
    # Retry policies cover faults of the service and lack of machines, but not a failed program.
    retry="shim",
    max_depth=1,
    start_seconds=(120, 480),
    # This needs a queue, to which the service reports that it waits.
    waits="native",
    waits_need=QUEUE,
    fan_out=MAX_ITEMS,
    # Each step takes about 2.6 KB. The remaining space of a definition is for their variables.
    max_steps=350,
)

TRANSPORT = Transport(
    # Images must come from Amazon ECR.
    image="",
    folder=f"{FOLDER}/input/kitaru",
    inline=False,
    longest_input=MAX_TEXT,
    takes_empty=False,
)


_MACHINES = (
    Machine("ml.t3.medium", 2, 4, 0),
    Machine("ml.t3.large", 2, 8, 0),
    Machine("ml.r5.large", 2, 16, 0),
    Machine("ml.c5.xlarge", 4, 8, 0),
    Machine("ml.m5.xlarge", 4, 16, 0),
    Machine("ml.r5.xlarge", 4, 32, 0),
    Machine("ml.c5.2xlarge", 8, 16, 0),
    Machine("ml.m5.2xlarge", 8, 32, 0),
    Machine("ml.r5.2xlarge", 8, 64, 0),
    Machine("ml.c5.4xlarge", 16, 32, 0),
    Machine("ml.m5.4xlarge", 16, 64, 0),
    Machine("ml.r5.4xlarge", 16, 128, 0),
    Machine("ml.c5.9xlarge", 36, 72, 0),
    Machine("ml.r5.8xlarge", 32, 256, 0),
    Machine("ml.m5.12xlarge", 48, 192, 0),
    Machine("ml.r5.12xlarge", 48, 384, 0),
    Machine("ml.r5.16xlarge", 64, 512, 0),
    Machine("ml.m5.24xlarge", 96, 384, 0),
    Machine("ml.r5.24xlarge", 96, 768, 0),
    Machine("ml.g4dn.xlarge", 4, 16, 1),
    Machine("ml.g4dn.2xlarge", 8, 32, 1),
    Machine("ml.g4dn.4xlarge", 16, 64, 1),
    Machine("ml.g4dn.8xlarge", 32, 128, 1),
    Machine("ml.g4dn.16xlarge", 64, 256, 1),
    Machine("ml.g4dn.12xlarge", 48, 192, 4),
    Machine("ml.g5.12xlarge", 48, 192, 4),
    Machine("ml.g5.24xlarge", 96, 384, 4),
    Machine("ml.g5.48xlarge", 192, 768, 8),
)

# From the service's own API model.
LIMITS = Limits(
    title="SageMaker Pipelines",
    document=1_048_576,
    parameters=200,
    variables=100,
    text=MAX_TEXT,
    image=255,
    store=MAX_TEXT,
    machines=_MACHINES,
)
