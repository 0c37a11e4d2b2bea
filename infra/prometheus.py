"""Prometheus for a services home: found or fetched, told what to scrape, bounded.

What is scraped and which alerts there are is code in `infra/deploy/prometheus`; addresses are put in here. The program
comes from PATH, or on Debian from the distribution's own package, unpacked below HOME without installing anything.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from infra.atomic import write_atomic
from infra.settings import Settings
from infra.supervise import Program

FOLDER = Path(__file__).parent / "deploy" / "prometheus"
RETENTION_TIME, RETENTION_SIZE = "15d", "2GB"
PACKAGE = "prometheus"
LOOPBACK = "127.0.0.1"
PATIENCE_S = 180.0
QUICKLY = ("-q", "-oAcquire::Retries=1", "-oAcquire::http::Timeout=15", "-oAcquire::https::Timeout=15")
NEEDED = "expected `prometheus` on PATH, or Debian's apt-get; install it (Debian: apt-get install prometheus)"


class PrometheusError(RuntimeError):
    """Prometheus is not here and cannot be fetched; the message says what to install."""


def prometheus_server(config: Settings) -> Program:
    """The server, on loopback; started again when what it is told changes. Raises PrometheusError."""
    program = find_program(config)
    told = write_config(config)
    place = f"{LOOPBACK}:{config.prometheus_port}"
    url = f"http://{place}"
    return Program(
        name="prometheus",
        argv=(
            str(program), f"--config.file={told}", f"--storage.tsdb.path={config.folder / 'prometheus'}",
            f"--storage.tsdb.retention.time={RETENTION_TIME}", f"--storage.tsdb.retention.size={RETENTION_SIZE}",
            f"--web.listen-address={place}", f"--web.external-url={url}", "--web.cors.origin=^$", "--log.level=warn",
            *_assets(program),
        ),
        environment={"ROADWORTHY_PROMETHEUS": _digest(told)},
        url=url,
        port=config.prometheus_port,
        ready_url=f"{url}/-/ready",
        priority=800,
        settle_s=1,
    )  # fmt: skip


def write_config(config: Settings) -> Path:
    """What Prometheus is told, as a file of this home."""
    told = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    exporter = f"{LOOPBACK}:{config.metrics_port}"
    ports = {"prometheus": config.prometheus_port, "gateway": config.gateway_port, "metrics": config.metrics_port}
    told["rule_files"] = [str(FOLDER / pattern) for pattern in told["rule_files"]]
    for job in told["scrape_configs"]:
        for group in job.get("static_configs", ()):
            group["targets"] = [f"{LOOPBACK}:{ports[job['job_name']]}"]
        for source in job.get("http_sd_configs", ()):
            source["url"] = f"http://{exporter}/targets/{job['job_name']}"
    text = yaml.safe_dump(told, sort_keys=False)
    return write_atomic(config.folder / "run" / "prometheus" / "prometheus.yaml", text.encode())


def find_program(config: Settings, name: str = "prometheus") -> Path:
    """`prometheus` or `promtool`: of PATH, of this home, or fetched into it. Raises PrometheusError."""
    if found := shutil.which(name):
        return Path(found)
    tools = config.folder / "tools"
    return _unpacked(tools, name) or _fetched(tools, name)


def _unpacked(tools: Path, name: str) -> Path | None:
    return next(iter(sorted(tools.glob(f"{PACKAGE}_*/usr/bin/{name}"), reverse=True)), None)


def _fetched(tools: Path, name: str) -> Path:
    """The program out of Debian's package, which apt checks against the signatures of the distribution."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise PrometheusError(f"{name}: {NEEDED}; got neither here")
    tools.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=tools) as folder:
        package = _download(Path(folder))
        root = Path(folder) / "root"
        _run(["dpkg-deb", "-x", str(package), str(root)], Path(folder))
        target = tools / package.stem
        if not target.exists():  # another command may have been faster
            root.rename(target)
    found = _unpacked(tools, name)
    if found is None:
        raise PrometheusError(f"{name}: {NEEDED}; got a package without it: {package.name}")
    return found


def _download(folder: Path) -> Path:
    """The package file; with package lists of our own where the machine's are missing."""
    own = [f"-oDir::State={folder / 'state'}", f"-oDir::Cache={folder / 'cache'}"]
    own += ["-oDir::State::status=/var/lib/dpkg/status", "-oAPT::Sandbox::User="]
    if not _is_done(["apt-get", *QUICKLY, "download", PACKAGE], folder):
        (folder / "state" / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        _run(["apt-get", *QUICKLY, *own, "update"], folder)
        _run(["apt-get", *QUICKLY, *own, "download", PACKAGE], folder)
    return next(folder.glob("*.deb"))


def _is_done(command: list[str], folder: Path) -> bool:
    return not _fault(command, folder)


def _run(command: list[str], folder: Path) -> None:
    if fault := _fault(command, folder):
        raise PrometheusError(f"{PACKAGE}: {NEEDED}; got from {command[0]}: {fault}")


def _fault(command: list[str], folder: Path) -> str:
    """Why it did not work; empty when it did."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return f"nothing in {PATIENCE_S:.0f} s"
    return "" if not done.returncode else (done.stderr or done.stdout).strip()[-400:] or f"status {done.returncode}"


def _assets(program: Path) -> list[str]:
    """Debian's build reads its pages from a fixed place; one that was unpacked elsewhere is told where they are."""
    pages = program.parents[1] / "share" / "prometheus" / "web"
    is_ours = program.parents[2].name.startswith(f"{PACKAGE}_")
    return [f"--web.local-assets={pages}/"] if is_ours and pages.is_dir() else []


def _digest(told: Path) -> str:
    """Of the file and the rules: a program that supervisord sees changed is started again."""
    rules: list[Any] = sorted((FOLDER / "rules").glob("*.yaml"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in (told, *rules))).hexdigest()[:16]
