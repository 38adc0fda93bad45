"""A target that runs a plan as a POSIX shell script."""

from kitaru_targets.base import Target

from .dry_run import execute
from .emit import emit
from .profile import PROFILE, TRANSPORT
from .submit import guide, submit
from .validate import validate

TARGET = Target(
    name="shell",
    title="a POSIX shell",
    profile=PROFILE,
    document="run.sh",
    emit=emit,
    validate=validate,
    submit=submit,
    execute=execute,
    guide=guide,
    transport=TRANSPORT,
)
