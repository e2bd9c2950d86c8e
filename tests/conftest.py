"""Fixtures for several test modules."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tally import Tally


@pytest.fixture(scope="session")
def mirror_or_none() -> Path | None:
    """The folder with the real data, laid out as `<host>/<path>`, if there is one."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "mirror"
    folder = Path(os.environ.get("DEAL_MIRROR") or beside)
    return folder.resolve() if folder.is_dir() else None


@pytest.fixture(scope="session")
def mirror(mirror_or_none: Path | None) -> Path:
    """The folder with the real data; it can also serve as a cache."""
    if mirror_or_none is None:
        pytest.skip("needs the real images: DEAL_MIRROR is no folder, and there is no ../shared/mirror")
    return mirror_or_none


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to look up a host or to connect fails the test."""

    def refuse(*arguments: object, **keywords: object) -> None:
        pytest.fail(f"the network was used: {arguments[-1]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts of what a test tried; kept, for docs/reliability.md, only if the test passes."""
    counting = Tally()
    failed = request.session.testsfailed
    yield counting
    if request.session.testsfailed == failed:
        request.config.cache.set(f"reliability/{request.node.nodeid.replace('/', '.')}", counting.counts)
