"""Fixtures of the tests of the cache: a store for each test."""

from tests.sdk.conftest import store as store
