"""What the process is asked to do: the extra that is missing, headers from a file, and that no secret shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smppd.config import Settings
from smppd.spans import job as module
from smppd.spans.job import EXTRA, Job, TracingError, installed, job_of

URL = "https://collector.example:4318/v1/traces"


def settings(path: Path, **tracing: Any) -> Settings:
    return Settings.model_validate(
        {
            "listeners": [{"address": "127.0.0.1:2775"}],
            "store": {"path": path / "store"},
            "keys": {"file": path / "kek"},
            "tracing": tracing,
        }
    )


def with_headers(path: Path, text: bytes) -> Settings:
    file = path / "headers"
    file.write_bytes(text)
    file.chmod(0o600)
    return settings(path, otlp=URL, headers={"file": file})


def test_off_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: pytest.fail("nothing is looked for"))
    assert job_of(settings(tmp_path)) is None


def test_a_job_comes_over_and_prints_no_secret(tmp_path: Path) -> None:
    job = job_of(with_headers(tmp_path, b"Authorization: Bearer t0p:x\n\nx-scope-orgid: 7\n"))
    assert job is not None
    assert job.headers == (("Authorization", "Bearer t0p:x"), ("x-scope-orgid", "7"))
    assert Job.read(job.as_json().encode()) == job
    assert "t0p" not in repr(job)


@pytest.mark.parametrize("why", ["no package", "no parent"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def find(name: str) -> None:
        assert name == EXTRA
        if why == "no parent":
            raise ModuleNotFoundError(name)

    assert installed()
    monkeypatch.setattr(module, "find_spec", find)
    with pytest.raises(TracingError, match=r"^tracing.otlp: needs .*pip install 'smppd\[otel\]'"):
        job_of(settings(tmp_path, otlp=URL))


@pytest.mark.parametrize(
    "text",
    [
        b"t0p",
        b"Authorization Bearer t0p",
        b"A b: t0p",
        b"Authorization:",
        b"Authorization: t0\x00p",
        b"Authorization: t0p\xe9",
        b"Host: t0p",
        b"X: t0p\nx: t0p",
        b"\n".join(b"x-%d: t0p" % number for number in range(17)),
    ],
)
def test_headers_that_are_none(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(TracingError, match=r"^tracing.headers: ") as caught:
        job_of(with_headers(tmp_path, text))
    assert "t0p" not in str(caught.value)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    made = with_headers(tmp_path, b"x: 1")
    (tmp_path / "headers").unlink()
    with pytest.raises(TracingError, match="cannot be read"):
        job_of(made)
