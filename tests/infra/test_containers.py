"""What is said to a container engine, and what its configuration holds; nothing is started here."""

import io
import os
import resource
import tarfile
import time
import tomllib
from pathlib import Path

import pytest

from infra.base_image import thin_out
from infra.containers import Engine, EngineError, Limits, Mount, Port, Run, finish, give_to_container, hardened
from infra.containers_conf import volatile_folder, write_configuration


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """podman of a home, by name only."""
    return Engine("podman", "/usr/bin/podman", tmp_path)


def test_a_run_has_no_rights_and_replaces_what_was_left_over(engine: Engine, tmp_path: Path) -> None:
    mounts = [Mount(tmp_path / "trust", "/run/trust"), Mount(tmp_path / "spool", "/run/spool", writable=True)]
    run = Run("image:1", "serve-1", [Port(3000, 8000)], mounts, {"B": "2", "A": "1"}, Limits(memory="200m"), ["--x"])
    command = engine.run_command(run)
    assert command[-2:] == ["image:1", "--x"] and {"run", "--rm", "--replace", "--name=serve-1"} <= set(command)
    assert set(hardened(Limits(memory="200m"))) <= set(command)
    assert {"--cap-drop=all", "--read-only", "--user=1034:1034", "--security-opt=no-new-privileges"} <= set(command)
    assert "--publish=127.0.0.1:8000:3000" in command
    assert f"--volume={tmp_path}/trust:/run/trust:ro" in command
    assert f"--volume={tmp_path}/spool:/run/spool:rw" in command
    assert [word for word in command if word.startswith("--env=")] == ["--env=A=1", "--env=B=2"]


def test_the_command_carries_the_configuration_of_its_home(engine: Engine, tmp_path: Path) -> None:
    prefix = engine.prefix()
    assert prefix[0] == "/usr/bin/env" and all(str(tmp_path) in word for word in prefix[1:])
    assert Engine("docker", "/usr/bin/docker", tmp_path).prefix() == []


def test_podmans_configuration_is_of_one_home(tmp_path: Path) -> None:
    names = write_configuration(tmp_path)
    settings = tomllib.loads(Path(names["CONTAINERS_CONF"]).read_text())
    storage = tomllib.loads(Path(names["CONTAINERS_STORAGE_CONF"]).read_text())["storage"]
    assert storage["graphroot"] == str(tmp_path / "containers") and "volumes" not in settings["containers"]
    assert settings["engine"]["tmp_dir"].startswith(str(volatile_folder(tmp_path)))
    assert volatile_folder(tmp_path) != volatile_folder(tmp_path / "other")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = dict(one.split("=") for one in settings["containers"]["default_ulimits"])
    assert hard == resource.RLIM_INFINITY or int(limits["nofile"].split(":")[1]) < hard


def test_a_build_may_see_more_than_a_run(tmp_path: Path) -> None:
    building = write_configuration(tmp_path, ["/a:/b:ro"])["CONTAINERS_CONF"]
    assert tomllib.loads(Path(building).read_text())["containers"]["volumes"] == ["/a:/b:ro"]
    assert building != write_configuration(tmp_path)["CONTAINERS_CONF"]


def test_without_an_engine_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="expected podman or docker, got neither; on Debian: apt-get install podman"):
        Engine.find(tmp_path)


def test_what_fails_is_said_with_the_end_of_its_output() -> None:
    with pytest.raises(EngineError, match=r"sh -c .* failed with 3: broken"):
        finish(["/usr/bin/env", "A=1", "sh", "-c", "echo broken >&2; exit 3"], 10)
    with pytest.raises(EngineError, match="not done after 0 s"):
        finish(["sleep", "5"], 0.1)


def test_a_folder_for_containers_is_theirs(tmp_path: Path) -> None:
    folder = give_to_container(tmp_path / "spool")
    assert folder.stat().st_uid == (1034 if os.geteuid() == 0 else os.geteuid())
    assert folder.stat().st_mode & 0o077 == 0


def archive(path: Path, files: dict[str, tuple[bytes, float]]) -> Path:
    with tarfile.open(path, "w") as target:
        for name, (content, mtime) in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mtime = len(content), int(mtime)
            target.addfile(member, io.BytesIO(content))
    return path


def test_two_installations_of_the_same_packages_are_one_archive(tmp_path: Path) -> None:
    made = []
    for number, began in enumerate((time.time(), time.time() + 86_400)):
        files = {
            "usr/bin/python3.11": (b"python", 1_700_000_000.0),
            "usr/share/doc/python3/README": (b"words", 1_600_000_000.0),
            "etc/shadow": (f"root:*:{20_000 + number}:0:::::\n".encode(), began),
            "var/lib/dpkg/status": (b"Package: perl\nA: b\n\nPackage: python3\nC: d\n", began + 6),
        }
        made.append(tmp_path / f"{number}.tar")
        thin_out(archive(tmp_path / f"raw{number}", files), made[-1], began)
    assert made[0].read_bytes() == made[1].read_bytes()
    with tarfile.open(made[0]) as thin:
        assert thin.getnames() == ["./usr/bin/python3.11", "./etc/shadow", "./var/lib/dpkg/status"]
        assert {member.mtime for member in thin} == {1_700_000_000}
        status = thin.extractfile("./var/lib/dpkg/status")
        assert status and status.read() == b"Package: python3\nC: d\n"
