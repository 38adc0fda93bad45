"""Decides what has to be in the store before a run starts, and how a run is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.stores import Store, open_store
from kitaru.wire import canonical, keys
from kitaru.wire.plan import OWN_DEFAULT

from .base import Submitted
from .build import Build
from .common import parameters, shell


def upload(build: Build, store: Store) -> None:
    """Put the bundle into the store under its digest; nothing is written twice.

    Raises EnvironmentFailure when the bundle is not the one that was compiled.
    """
    data = (build.directory / "bundle.zip").read_bytes()
    if canonical.sha256(data) != build.bundle_digest:
        raise EnvironmentFailure(
            f"{build.directory / 'bundle.zip'} changed after it was compiled.",
            help="compile again: kitaru compile",
        )
    store.create(keys.bundle(build.bundle_digest), data)


def carry(build: Build, inputs: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """Return native parameter values for a flow's inputs; the store keeps what they cannot be.

    Raises InputError when an input is missing, unknown or of the wrong type.
    """
    given = parameters.values(build.plan, inputs)
    most = build.target.transport.longest_input
    texts = {n: v for n, v in given.items() if most and isinstance(v, str)}
    stored = {n: text for n, text in texts.items() if not text or len(text) > most}
    if build.target.transport.encoded:
        given |= {n: shell.encoded(text) for n, text in texts.items()}
    if not stored:
        return given
    data = canonical.dumps(stored)
    key = keys.inputs(canonical.sha256(data))
    store.create(key, data)
    return {**given, **dict.fromkeys(stored, OWN_DEFAULT), parameters.INPUTS: key}


def submit(
    build: Build,
    *,
    inputs: Mapping[str, Any],
    store_url: str,
    exec_id: str | None = None,
    options: Mapping[str, str],
) -> Submitted:
    """Upload the bundle and start a run on the real service.

    Never run against a real service: the vendor's SDK is called as its documentation says.

    Args:
        inputs: the flow's inputs by name.
        store_url: where bundle and journal are; a bucket that the cluster reaches.
        exec_id: go on with this execution; by default a new one.
        options: the target's own, see `submit` of the target.

    Raises:
        InputError: an input is missing, unknown or of the wrong type.
        UsageError: the store is local, or an option is unknown.
        EnvironmentFailure: the SDK is missing, or store or service refused.
    """
    store = open_store(store_url)
    try:
        files = () if build.target.transport.local else ("sqlite:",)
        if store.url.startswith(("memory:", *files)):
            raise UsageError(
                f"{build.target.title} cannot reach the store {store.url}",
                help="use --store s3://…, gs://… or az://…",
            )
        given = carry(build, inputs, store)
        upload(build, store)
    finally:
        store.close()
    given |= {parameters.STORE: store_url.rstrip("/"), parameters.EXECUTION: exec_id or ""}
    return build.target.submit(str(build.document), given, options)
