"""One part of the platform as a container's command: `python -m flows.role NAME`.

`up` hands a whole group to supervisord. Where every part has a container of its own, the same program, found by its
name, becomes this process once what it needs answers. Hosts of the other parts come from `ROADWORTHY_…_HOST`, secrets
from a file: MOUNTED, where an orchestrator puts it, or HOME/keys.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from flows.workshop import Workshop, open_workshop
from infra.atomic import create_atomic
from infra.profile import SECRETS_FILE, Secrets
from infra.seaweedfs import sync_writes
from infra.servers import servers
from infra.settings import Settings, child_environment
from infra.stack import stack_mark
from infra.supervise import Program

MOUNTED = Path("/etc/roadworthy/secrets/services.json")
PATIENCE_S = 60.0  # for secrets that are made while this starts
USAGE = """usage: python -m flows.role NAME

  postgres, s3, prefect, mlflow, worker, …   the program that `roadworthy up --profile services` starts under this name
  serving                                    a router and replicas of every live product, kept running
  sync                                       has the S3 server write to the disk before it acknowledges; `s3` starts it
  secrets [FOLDER]                           new secrets: into FOLDER/services.json unless it is there, else printed
"""


def program(shop: Workshop, name: str) -> Program:
    """The program of this name; raises SystemExit that lists the known ones. Nothing else is looked at or imported."""
    known = {one.name: partial(_same, one) for one in servers(shop.config)} | AT_HOME
    if name not in known:
        raise SystemExit(f"role '{name}': expected one of {', '.join([*known, 'serving', 'secrets'])}")
    return known[name](shop)


def _same(known: Program, _shop: Workshop) -> Program:
    return known


def _worker(shop: Workshop) -> Program:
    from flows.schedules import worker

    return worker(shop.config)


def _capture(_shop: Workshop) -> Program:
    from flows.capture import shipper

    return shipper()


def _gateway(shop: Workshop) -> Program:
    from flows.gateway import gateway, how_to_log_in

    for line in how_to_log_in(shop):
        sys.stderr.write(line + "\n")
    return gateway(shop)


def _hooks(shop: Workshop) -> Program:
    from flows.hooks import hooks

    return hooks(shop.config)


def _metrics(shop: Workshop) -> Program:
    from flows.metrics import eyes

    return eyes(shop.config)[0]


def _prometheus(shop: Workshop) -> Program:
    from infra.prometheus import prometheus_server

    return prometheus_server(shop.config)


AT_HOME: dict[str, Callable[[Workshop], Program]] = {
    "worker": _worker, "capture": _capture, "gateway": _gateway, "hooks": _hooks, "metrics": _metrics,
    "prometheus": _prometheus,
}  # fmt: skip


def environment(shop: Workshop, wanted: Program) -> dict[str, str]:
    """All that the program finds in its environment: the container's, the home's, its own, and whose it is."""
    marks = {**stack_mark(shop.config), "SUPERVISOR_PROCESS_NAME": wanted.name}
    return child_environment(shop.config, **marks, **wanted.environment)


def take_secrets(home: Path, mounted: Path = MOUNTED) -> None:
    """Let HOME/keys name the secrets that are mounted; outside a container: HOME's own, as in `up`.

    They may still be about to be made: raises SystemExit when they do not come, and never makes others.
    """
    link = home / SECRETS_FILE
    if not mounted.parent.exists() or link.exists():
        return
    deadline = time.monotonic() + PATIENCE_S
    while not mounted.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{mounted}: expected the secrets of this platform, got none after {PATIENCE_S:.0f} s")
        time.sleep(0.2)
    link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):  # parts of one pod start at once
        link.symlink_to(mounted)


def make_secrets(folder: str) -> None:
    """New secrets into `folder`, once; without one onto stdout, for `kubectl create secret`."""
    made = Secrets().model_dump_json(indent=1)
    if not folder:
        sys.stdout.write(made + "\n")
    elif create_atomic(Path(folder) / MOUNTED.name, made.encode(), mode=0o600):
        sys.stderr.write(f"made {folder}/{MOUNTED.name}\n")


def main(words: list[str]) -> None:
    """Become the program of this name."""
    if not words or words[0] in ("--help", "-h"):
        raise SystemExit(USAGE)
    name, *rest = words
    if name == "secrets":
        make_secrets("".join(rest[:1]))
        return
    take_secrets(Settings().folder)
    shop = open_workshop()
    if name == "serving":
        from flows.keep_serving import keep_serving

        keep_serving(shop)
        return
    if name == "sync":
        sync_writes(shop.config)
        return
    wanted = program(shop, name)
    if name == "s3":
        place = f"127.0.0.1:{shop.config.s3_port}"
        subprocess.Popen([sys.executable, "-m", "infra.after", place, "--", sys.executable, "-m", "flows.role", "sync"])
    os.execvpe(wanted.command[0], wanted.command, environment(shop, wanted))  # noqa: S606 - a program of our own


if __name__ == "__main__":
    main(sys.argv[1:])
