"""A part of the platform as the command of a container: found by name, its secrets where an orchestrator puts them."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flows import role
from flows.workshop import Workshop
from infra.profile import SECRETS_FILE, Secrets, read_secrets
from infra.settings import Settings, with_profile


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """Secrets as `secrets FOLDER` makes them."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    role.make_secrets(str(folder))
    return folder / "services.json"


@pytest.fixture
def shop(tmp_path: Path, mounted: Path) -> Workshop:
    """A container's workshop: a home with nothing in it, hosts and profile from its environment."""
    role.take_secrets(tmp_path / "home", mounted)
    config = Settings(home=tmp_path / "home", profile="services", postgres_host="db.example", s3_host="s3.example")
    return Workshop(with_profile(config))


def test_secrets_are_made_once_and_for_their_owner_only(mounted: Path) -> None:
    first = mounted.read_bytes()
    role.make_secrets(str(mounted.parent))
    assert mounted.read_bytes() == first and stat.S_IMODE(mounted.stat().st_mode) == 0o600
    assert len(set(json.loads(first).values())) == len(Secrets.model_fields)


def test_mounted_secrets_are_those_of_the_home(shop: Workshop, mounted: Path) -> None:
    role.take_secrets(shop.home, mounted)  # again, as after a restart
    assert read_secrets(shop.home) == Secrets.model_validate_json(mounted.read_bytes())
    assert (shop.home / SECRETS_FILE).is_symlink()


def test_nothing_mounted_leaves_the_home_as_it_is(tmp_path: Path) -> None:
    role.take_secrets(tmp_path / "home", tmp_path / "missing" / "services.json")
    assert not (tmp_path / "home").exists()


def test_secrets_that_do_not_come_are_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role, "PATIENCE_S", 0.0)
    with pytest.raises(SystemExit, match="expected the secrets of this platform"):
        role.take_secrets(tmp_path / "home", tmp_path / "services.json")
    assert not (tmp_path / "home").exists()


def test_a_part_knows_the_others_by_their_hosts(shop: Workshop) -> None:
    mlflow = role.program(shop, "mlflow")
    assert mlflow.needs == ("db.example:5433", "s3.example:8333")
    found = role.environment(shop, mlflow)
    assert "@db.example:5433/mlflow" in found["MLFLOW_BACKEND_STORE_URI"]
    assert found["MLFLOW_S3_ENDPOINT_URL"] == "http://s3.example:8333"
    assert found["SUPERVISOR_PROCESS_NAME"] == "mlflow" and found["ROADWORTHY_STACK"]
    words = " ".join(mlflow.command)
    assert all(value not in words for value in json.loads((shop.home / SECRETS_FILE).read_text()).values())


def test_an_unknown_part_is_refused_with_the_known_ones(shop: Workshop) -> None:
    with pytest.raises(SystemExit, match=r"role 'nobody': expected one of postgres, s3, .*worker.*serving"):
        role.program(shop, "nobody")


def test_it_becomes_the_program(tmp_path: Path) -> None:
    """PostgreSQL as a container runs it: this very process, ended by the signal that its container is sent."""
    environment = {"ROADWORTHY_HOME": str(tmp_path), "ROADWORTHY_PROFILE": "services", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.role"], env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 1 and "usage" in done.stderr
