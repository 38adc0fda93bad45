"""Upload the data of a run to the store, and start the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import InputError, UsageError
from kitaru.stores import Store, open_store
from kitaru.wire import canonical, keys
from kitaru_targets.base import Submitted, Target
from kitaru_targets.build import Build
from kitaru_targets.common import parameters, shell


def upload(build: Build, store: Store) -> None:
    """Store the bundle under its digest, unless it is already stored.

    Starting a deployed version therefore needs no permission to write code.

    Raises StateError if the bundle differs from the compiled one.
    """
    data = build.read("bundle.zip")
    key = keys.bundle(build.bundle_digest)
    if key not in store.list(key):
        store.create(key, data)


def carry(build: Build, inputs: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """Return native parameter values for a flow's inputs; store inputs that do not fit one.

    Raises InputError if an input is missing, unknown or of the wrong type.
    """
    transport = build.target.transport
    carried = parameters.carried(build.plan, inputs, transport)
    given, stored = carried.given, carried.stored
    if transport.encoded:
        texts = {n: v for n, v in given.items() if isinstance(v, str) and n not in stored}
        given = given | {name: shell.encoded(text) for name, text in texts.items()}
    if not stored:
        return given
    document = build.document.read_text("utf-8")
    # A target of another distribution may use another name for the parameter.
    if not any(word in document for word in (parameters.INPUTS, "--inputs-key")):
        raise InputError(
            f"The input {min(stored)!r} of {build.plan.flow} is too large for a parameter of "
            f"{build.target.title}, and the pipeline has no {parameters.INPUTS} to read it from "
            "the store.",
            help="compile or deploy the flow again with this version of Kitaru",
        )
    data = canonical.dumps(stored)
    key = keys.inputs(canonical.sha256(data))
    store.create(key, data)
    return {**given, parameters.INPUTS: key}


def check_reach(target: Target, store: Store) -> None:
    """Raise UsageError if the steps of a target cannot reach a store."""
    files = () if target.transport.local else ("sqlite:",)
    if store.url.startswith(("memory:", *files)):
        raise UsageError(
            f"{target.title} cannot reach the store {store.url}",
            help="use --store s3://…, gs://… or az://…",
        )


def submit(
    build: Build,
    *,
    inputs: Mapping[str, Any],
    store_url: str,
    exec_id: str | None = None,
    options: Mapping[str, str],
) -> Submitted:
    """Upload the bundle and start a run on the real service.

    Never run against a real service: the vendor's SDK is called as documented.

    Args:
        inputs: the flow's inputs by name.
        store_url: the store of the bundle and the journal; a bucket that the cluster can reach.
        exec_id: the execution to resume; default a new one.
        options: options of the target; see `submit` of the target.

    Raises:
        InputError: an input is missing, unknown or of the wrong type.
        UsageError: the store is local, or an option is unknown.
        EnvironmentFailure: the SDK is missing, or the store or the service refused.
    """
    store = open_store(store_url)
    try:
        check_reach(build.target, store)
        given = carry(build, inputs, store)
        upload(build, store)
    finally:
        store.close()
    given |= {parameters.STORE: store_url.rstrip("/"), parameters.EXECUTION: exec_id or ""}
    return build.target.submit(str(build.document), given, options)
