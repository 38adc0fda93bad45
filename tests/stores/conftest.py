from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.stores import Store, open_store

from .s3_server import Bucket, s3_server


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    pytest.importorskip("obstore")
    with s3_server() as (bucket, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


@pytest.fixture(params=["sqlite", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/store.db"
    if request.param == "memory":
        return f"memory:t{secrets.token_hex(4)}"
    request.getfixturevalue("bucket")
    return "s3://bucket/some/prefix"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url)
    yield store
    store.close()
