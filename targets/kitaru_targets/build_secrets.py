"""Refuse a build that would contain the value of a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kitaru.errors import UsageError
from kitaru.runtime import secrets as local_secrets
from kitaru.wire import redaction
from kitaru.wire.plan import LOCK, Plan
from kitaru.wire.redaction import redacted


def check(plan: Plan, sources: Mapping[str, bytes], named: Mapping[str, str]) -> None:
    """Raise UsageError if the value of a secret on this machine would be in a build.

    All content of a build comes from the plan, the project's files, and the arguments of this
    function.
    """
    if not are_known(plan):
        return
    fields = json.loads(plan.to_json())
    places = {f"`{name}` of the plan": value for name, value in fields.items()} | dict(named)
    found = {place: redaction.find_secret_in_document(value) for place, value in places.items()}
    for name, data in sources.items():
        found[name] = redaction.find_secret_in(name) or redaction.find_secret_in_bytes(data)
    for place, secret in found.items():
        if secret:
            raise UsageError(
                f"The value of the secret {secret} would be in the build: {redacted(place)} "
                "contains it.",
                help=f'Remove it there, and call kitaru.secret("{secret}") where it is used.',
            )


def check_files(files: Mapping[str, bytes]) -> None:
    """Do the same as `check` for the files of a finished build."""
    plan = Plan.from_json(files["plan.json"])
    if are_known(plan):
        # Machines without secrets need not import the reader of bundles.
        from kitaru_targets import bundle

        wiring = json.loads(files[LOCK])
        named = {"the image": wiring["image"], "the URL of the store": wiring["store"]}
        check(plan, bundle.project(bundle.contents(files["bundle.zip"])), named)


def are_known(plan: Plan) -> bool:
    """Return whether this machine has values of secrets, which a build must not contain."""
    local_secrets.register_local(plan)
    return redaction.has_values()
