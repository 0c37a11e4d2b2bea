"""Drives a container engine, podman or docker: images, and runs without rights.

podman's images, its configuration and what it keeps while it runs belong to one HOME, so that two of them, or another
user of podman on the machine, never meet. docker has one daemon for all, with its own configuration.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from infra.containers_conf import write_configuration

USER_ID = 1034  # BentoML's, and ours inside every image
INSTALL = "apt-get install podman runc conmon netavark aardvark-dns iptables iproute2 catatonit"
STOP_S = 15
VARIABLE = re.compile("[A-Z_]+=")
SYSTEMD = Path("/run/systemd/private")


class EngineError(RuntimeError):
    """There is no container engine, or it refused; the message is the end of what it printed."""


@dataclass(frozen=True)
class Limits:
    """What one container may use. Its root is read-only; `/tmp` is memory of its own."""

    memory: str = "256m"
    cpus: float = 1.0
    pids: int = 128
    tmpfs: str = "16m"


@dataclass(frozen=True)
class Mount:
    """A folder of the host inside a container."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Port:
    """A port of the host on which a container's port is published."""

    inside: int
    outside: int
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Run:
    """One container: which image, where it listens, what it sees, what it may use."""

    image: str
    name: str
    ports: Sequence[Port] = ()
    mounts: Sequence[Mount] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class Engine:
    """A container engine; podman's images and containers are those of one HOME."""

    name: Literal["podman", "docker"]
    executable: str
    home: Path

    @classmethod
    def find(cls, home: Path) -> "Engine":
        """podman where it is installed, else a docker whose daemon answers; raises EngineError that says what to do."""
        if podman := shutil.which("podman"):
            return cls("podman", podman, home.resolve())
        docker = shutil.which("docker")
        if docker and subprocess.run([docker, "version"], capture_output=True, timeout=30).returncode == 0:
            return cls("docker", docker, home.resolve())
        got = "a docker without a daemon" if docker else "neither"
        raise EngineError(f"container engine: expected podman or docker, got {got}; on Debian: {INSTALL}")

    def prefix(self, build_volumes: Sequence[str] = ()) -> list[str]:
        """What stands before a command that shall use this HOME's podman: `env NAME=value …`; writes the files named.

        `build_volumes`, `source:target:ro`, are mounted into every step of a build, and into nothing else.
        """
        if self.name == "docker":
            return []
        variables = write_configuration(self.home, build_volumes)
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in variables.items())]

    def ask(self, *arguments: str, timeout_s: float = 120) -> str:
        """What the engine prints; raises EngineError with the end of what it said when it fails."""
        return finish([*self.prefix(), self.executable, *arguments], timeout_s)

    def exists(self, image: str) -> bool:
        """Whether the image is here."""
        return image_id(self, image) != ""

    def inspect(self, name: str, kind: Literal["image", "container"] = "container") -> dict[str, Any]:
        """The engine's record of an image or a container; raises EngineError when there is none."""
        record: dict[str, Any] = json.loads(self.ask(kind, "inspect", name))[0]
        return record

    def run_command(self, run: Run) -> list[str]:
        """The command that runs a container in the foreground, hardened; SIGTERM to it drains the container.

        It replaces a container of this name (left over when the command itself was killed) and leaves none behind.
        """
        replace = ["--replace"] if self.name == "podman" else []
        if self.name == "podman" and not SYSTEMD.exists():
            replace.append("--no-healthcheck")  # its timers are systemd's; whoever supervises it asks it himself
        if self.name == "podman" and os.geteuid() != 0:
            replace.append(f"--userns=keep-id:uid={USER_ID},gid={USER_ID}")  # so that it may read what is ours
        ports = [f"--publish={port.host}:{port.outside}:{port.inside}" for port in run.ports]
        mounts = [f"--volume={one.source}:{one.target}:{'rw' if one.writable else 'ro'}" for one in run.mounts]
        variables = [f"--env={name}={value}" for name, value in sorted(run.environment.items())]
        options = [*replace, *hardened(run.limits), *ports, *mounts, *variables]
        start = [*self.prefix(), self.executable, "run", "--rm", f"--name={run.name}", *options]
        return [*start, run.image, *run.arguments]

    def stop(self, name: str, timeout_s: int = STOP_S) -> None:
        """Drain and end a container; SIGKILL after `timeout_s`. One that is not there is no error."""
        if name in self.containers():
            self.ask("stop", f"--time={timeout_s}", name, timeout_s=timeout_s + 30)

    def remove(self, name: str) -> None:
        """Kill a container and forget it. One that is not there is no error."""
        if name in self.containers():
            self.ask("rm", "--force", name)

    def containers(self) -> list[str]:
        """Names of all containers, running or not."""
        return self.ask("ps", "--all", "--format={{.Names}}").split()

    def gateway(self) -> str:
        """The address as which this machine reaches a container's published port, "" where it cannot be known."""
        if self.name == "docker":
            return self.ask("network", "inspect", "bridge", "--format={{(index .IPAM.Config 0).Gateway}}")
        if os.geteuid() != 0:
            return ""  # a network of the user's own, without one
        return self.ask("network", "inspect", "podman", "--format={{(index .Subnets 0).Gateway}}")

    def images(self) -> list[str]:
        """`name:tag` of every image that has one."""
        return [
            line for line in self.ask("images", "--format={{.Repository}}:{{.Tag}}").split() if "<none>" not in line
        ]

    def build(self, context: Path, tag: str, *options: str, timeout_s: float = 600) -> str:
        """Build `context`/Containerfile; returns the image's id. The format is docker's: OCI's has no HEALTHCHECK."""
        kind = ["--format=docker"] if self.name == "podman" else []
        self.ask(
            "build", *kind, *options, f"--tag={tag}", f"--file={context / 'Containerfile'}", str(context),
            timeout_s=timeout_s,
        )  # fmt: skip
        return image_id(self, tag)


def hardened(limits: Limits) -> list[str]:
    """Options of a run that has no rights: no capability, nothing to write to but `/tmp`, no way to gain more."""
    return [
        f"--user={USER_ID}:{USER_ID}",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--read-only",
        f"--tmpfs=/tmp:rw,noexec,nosuid,nodev,size={limits.tmpfs}",
        f"--pids-limit={limits.pids}",
        f"--memory={limits.memory}",
        f"--memory-swap={limits.memory}",
        f"--cpus={limits.cpus:g}",
        "--log-driver=none",  # the foreground command prints it, and whoever supervises it keeps it
        f"--stop-timeout={STOP_S}",
    ]


def image_id(engine: Engine, image: str) -> str:
    """The id of an image, "" when it is not here."""
    return engine.ask("images", "--quiet", "--no-trunc", f"--filter=reference={image}").partition("\n")[0]


def finish(command: Sequence[str], timeout_s: float) -> str:
    """What a command prints; raises EngineError when it fails or does not end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{_shown(command)}: not done after {timeout_s:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise EngineError(f"{_shown(command)} failed with {done.returncode}: {said}")
    return done.stdout.strip()


def _shown(command: Sequence[str]) -> str:
    """The program and what it was to do, without the variables that `env` sets for it."""
    words = [word for word in command if word != "/usr/bin/env" and not VARIABLE.match(word)]
    return " ".join([Path(words[0]).name, *words[1:4]])


def give_to_container(folder: Path) -> Path:
    """A folder that containers may write to: made, and theirs where we are root (else they run as ourselves)."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, USER_ID, USER_ID)
    return folder
