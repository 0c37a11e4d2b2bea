"""One part of the platform in the foreground, the command of a container: `python -m flows.role NAME`.

`up` hands a whole group to supervisord. Where every part has a container of its own, the same program, found by its
name, becomes this process once what it needs answers. Hosts of the other parts come from `ROADWORTHY_…_HOST`, secrets
from a file: MOUNTED, where an orchestrator puts it, or HOME/keys.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from flows.workshop import Workshop, open_workshop
from infra.atomic import create_atomic
from infra.profile import SECRETS_FILE, Secrets
from infra.servers import servers
from infra.settings import Settings, child_environment
from infra.stack import stack_mark
from infra.supervise import Program

MOUNTED = Path("/etc/roadworthy/secrets/services.json")
USAGE = """usage: python -m flows.role NAME

  postgres, s3, prefect, mlflow, worker, …   the program that `roadworthy up --profile services` starts under this name
  serving                                    a router and replicas of every live product, kept running
  settle                                     what the servers are told once they answer; ends
  secrets [FOLDER]                           new secrets: into FOLDER/services.json unless it is there, else printed
"""


def program(shop: Workshop, name: str) -> Program:
    """The program of this name; raises SystemExit that lists the known ones."""
    known = {one.name: one for one in servers(shop.config)}
    if name not in known:  # what the others are made of is not looked at by a server's container
        from flows.up import own_programs

        known = {one.name: one for one in own_programs(shop)}
    if name not in known:
        raise SystemExit(f"role '{name}': expected one of {', '.join([*known, 'serving', 'settle', 'secrets'])}")
    return known[name]


def environment(shop: Workshop, wanted: Program) -> dict[str, str]:
    """All that the program finds in its environment: the container's, the home's, its own, and whose it is."""
    marks = {**stack_mark(shop.config), "SUPERVISOR_PROCESS_NAME": wanted.name}
    return child_environment(shop.config, **marks, **wanted.environment)


def take_secrets(home: Path, mounted: Path = MOUNTED) -> None:
    """Let HOME/keys name the secrets that are mounted; nothing is mounted: HOME's own, as in `up`."""
    link = home / SECRETS_FILE
    if not mounted.exists() or link.exists():
        return
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
    if name == "settle":
        from flows.keep_serving import settle

        settle(shop)
        return
    wanted = program(shop, name)
    os.execvpe(wanted.command[0], wanted.command, environment(shop, wanted))  # noqa: S606 - a program of our own


if __name__ == "__main__":
    main(sys.argv[1:])
