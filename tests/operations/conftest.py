"""One running services profile for all: real PostgreSQL, S3, Prefect, MLflow, gateway, and a small live product."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.journey.conftest import Road, write_ring

PORTS = ("mlflow", "prefect", "serve", "gateway", "postgres", "s3", "prometheus")


@dataclass(frozen=True)
class Operations(Road):
    """The command in one services home; `place` tells the public port of a server."""

    public: tuple[tuple[str, int], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **{f"ROADWORTHY_{name.upper()}_PORT": str(port) for name, port in self.public}}

    def place(self, name: str) -> int:
        """The public port of `mlflow`, `prefect`, `serve`, `gateway`, `postgres`, `s3` or `prometheus`."""
        return dict(self.public)[name]


def services_home(folder: Path) -> Operations:
    """A home in `folder` on free ports, with the data set `ring`; nothing runs yet."""
    public = {name: Road.free_port() for name in PORTS}
    ports = (public["mlflow"], public["prefect"], public["serve"])
    one = Operations(folder / "home", ports, tuple(public.items()))
    source = write_ring(folder / "ring.csv")
    words = ("--cadence", "15min", "--unit", "km/h", "--start", "2024-05-06")
    one.ask("data", "add", "ring", "--wide", str(source), *words)
    return one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs the profile waits until it is up."""
    for item in items:
        if "operations" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operations]:
    """A services home, up, with `ring` version 1 live behind its router; that was made in its embedded time."""
    one = services_home(tmp_path_factory.mktemp("operations"))
    try:
        assert one.run("forecast/linear")["promoted"]
        one.ask("up", "--profile", "services")
        yield one
    finally:
        one.call("down")
