"""Where a model may be asked."""

from __future__ import annotations

import pytest

from kitaru.errors import UsageError
from kitaru.runtime.llm.endpoints import check_endpoint, check_environment


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.170.2/v2/credentials",
        "http://2852039166/",
        "http://0xa9fea9fe:80/",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://[fe80::1]/v1",
        "http://100.100.100.200/",
        "http://[64:ff9b::a9fe:a9fe]/v1",
        "http://[2002:a9fe:a9fe::1]/v1",
        "http://[::a9fe:a9fe]/v1",
        "http://[fd20:ce::254]/v1",
        "http://192.0.0.192/",
        "http://[64:ff9b:1::a9fe:a9fe]/v1",
        "http://[::ffff:0:a9fe:a9fe]/v1",
        "http://[fe80::5efe:a9fe:a9fe]/v1",
        "http://[2001:db8::5efe:a9fe:a9fe]/v1",
        "http://[2001:db8::200:5efe:169.254.169.254]/v1",
        "http://[2001:0:a9fe:a9fe::1]/v1",
        "http://[2001:0:1:1::5601:5601]/v1",
        "http://[2001:db8:a9fe:a9fe::]/v1",
        "http://[2001:db8:1a9:fea9:fe::]/v1",
        "http://[2001:db8:0:0:a9:fea9:fe00:0]/v1",
        "http://[2001:db8::6464:64c8]/v1",
        "http://[0:0:0:0:0:FFFF:A9FE:A9FE]/v1",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://169.16689662/",
        "http://１６９.254.169.254/",
        "http://[::1",
        "file:///etc/passwd",
        "ftp://models.example/v1",
        "//169.254.169.254",
        "models.example/v1",
        "http:///v1",
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(UsageError, match="the model fast"):
        check_endpoint(url, "the model fast")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1",
        "http://10.0.0.3/v1",
        "http://[::1]:8080/v1",
        "http://[2001:db8::1]/v1",
        "http://[64:ff9b::808:808]/v1",
        "http://[2600:1f18:1234:5678::a]/v1",
        "http://" + "a" * 300 + "/v1",
    ],
)
def test_allowed(url: str) -> None:
    check_endpoint(url, "the model fast")


def test_the_environment_names_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://169.254.169.254")
    with pytest.raises(UsageError, match="OPENAI_BASE_URL"):
        check_environment("openai")
    check_environment("anthropic")
