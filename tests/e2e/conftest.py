"""Fixtures: certificates for the run, a simulated SMSC, the gateway."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.children import ROOT, Smsc
from tests.e2e.harness import Gateway, Upstream, account


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with {ca,server,client}.{pem,key}, made by certs/make.py."""
    directory = tmp_path_factory.mktemp("certificates")
    spec = importlib.util.spec_from_file_location("certs_make", ROOT / "certs/make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up.

    sys.modules["certs_make"] = module
    spec.loader.exec_module(module)
    module.make(directory, datetime.now(UTC))
    return directory


@pytest.fixture(scope="module")
def smsc(certificates: Path) -> Iterator[Smsc]:
    """A simulated SMSC with TLS, one for the module."""
    config = {
        "system_id": "gateway",
        "password": "sm5c-Pw1",
        "certificate": str(certificates / "server.pem"),
        "key": str(certificates / "server.key"),
        "behaviour": {"receipt_delay": 0.01},
    }
    with Smsc(config) as child:
        yield child


@pytest.fixture(scope="module")
def make_gateway(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Gateway]:
    """Makes a gateway in a directory of its own; not started yet. Use it as a context manager."""

    def make(upstreams: list[Upstream], accounts: list[dict[str, Any]] | None = None, **sections: Any) -> Gateway:
        directory = tmp_path_factory.mktemp("gateway")
        return Gateway(directory, certificates, upstreams, accounts or [account()], **sections)

    return make
