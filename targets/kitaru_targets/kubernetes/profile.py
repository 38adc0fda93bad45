"""The compiler's profile of plain Kubernetes, the project's options for it, and its limits."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Schedules, Transport
from kitaru_targets.common import kubernetes
from kitaru_targets.common.options import Option

# A Job gives its name to its pods as a label, and a label has at most this many characters.
MAX_NAME = 63
# The API server adds five characters to `generateName`.
MAX_PREFIX = MAX_NAME - 5
# A CronJob adds the time of a Job to its own name.
MAX_CRON_NAME = 52
# The largest object that the API server stores, with room for its status.
MAX_DOCUMENT_BYTES = 1_000_000
MAX_SECONDS = 2_147_483_647

# The file beside the Job: the objects that exist before it.
SETUP = "setup.yaml"
FURTHER = (SETUP,)

NAMESPACE, ACCOUNT, USER = "namespace", "service_account", "user"
SECONDS, KEPT, ATTEMPTS = "max_seconds", "kept_seconds", "backoff_limit"
DEFAULTS = {
    ACCOUNT: "kitaru",
    # The user of the image that the Dockerfile builds.
    USER: "10001",
    SECONDS: "86400",
    KEPT: "604800",
    ATTEMPTS: "4",
}
_OBJECT = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NUMBER = r"[1-9][0-9]{0,9}"
OPTIONS = {
    **kubernetes.OPTIONS,
    NAMESPACE: Option("the namespace of the Job, a DNS label", _OBJECT),
    ACCOUNT: Option("the name of the service account that the flow's code runs as", _OBJECT),
    USER: Option(
        "the number of the user that the flow's code runs as, not 0", _NUMBER, MAX_SECONDS
    ),
    SECONDS: Option("how long a Job may run, in seconds: a whole number", _NUMBER, MAX_SECONDS),
    KEPT: Option("how long an ended Job is kept, in seconds: a whole number", _NUMBER, MAX_SECONDS),
    ATTEMPTS: Option("how many pods of a Job may fail before it fails", r"[0-9]{1,3}"),
}

# A Job that waits for an answer has ended, and does not prevent the next one.
SCHEDULES = Schedules("a CronJob", SETUP, ("skip", "allow"), ("last", "none"), ends_at_waits=True)

# What a step becomes, in the words of the orchestrator.
UNIT = "Job (one pod)"

PROFILE = Profile(
    name="kubernetes",
    # Nothing in Kubernetes starts one Job after another.
    max_steps=1,
    branches=False,
    max_depth=1,
    # A Job starts its pod again only if the process was lost, and with pauses of its own.
    retry="shim",
    waits="suspended",
    start_seconds=(2, 15),
)

TRANSPORT = Transport(longest_input=10_000, longest_together=200_000, pods=True)
