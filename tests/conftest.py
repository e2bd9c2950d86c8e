"""Fixtures for several test modules."""

import os
import socket
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with the real data, laid out as `<host>/<path>`; such a folder can also serve as a cache."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "mirror"
    folder = Path(os.environ.get("DEAL_MIRROR") or beside)
    if not folder.is_dir():
        pytest.skip("needs the real images: DEAL_MIRROR is no folder, and there is no ../shared/mirror")
    return folder.resolve()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to look up a host or to connect fails the test."""

    def refuse(*arguments: object, **keywords: object) -> None:
        pytest.fail(f"the network was used: {arguments[-1]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
