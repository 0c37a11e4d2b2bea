"""Experiment tracking: runs found again by key, metrics in batches, data sets with digests.

A run carries `roadworthy.key`, so a rerun after `kill -9` goes on in the run it left, and `roadworthy.owner`, so a run
whose process died is told from one that works. Never `log_metric`: it is hundreds of times slower than `log_batch`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock

from infra import tracking_store
from infra.refs import RunRef
from infra.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY, STEP, OWNER, PARENT = "roadworthy.key", "roadworthy.step", "roadworthy.owner", "mlflow.parentRunId"
LIFECYCLE = "lifecycle"
# MLflow's own limits
MAX_PARAMS_PER_BATCH, MAX_METRICS_PER_BATCH = 100, 1000
MAX_PARAM_CHARACTERS, MAX_TAG_CHARACTERS, MAX_DIGEST_CHARACTERS = 6000, 8000, 36
SAME_START_S = 60.0  # two readings of one process' start differ by less, also after the clock was set


class RunBusyError(RuntimeError):
    """Another living process works on the run with this key."""


class TrackedRun(RunRef):
    """A run of one product; `finished` when an earlier execution with the same key completed it."""

    experiment_id: str
    finished: bool


@dataclass(frozen=True)
class StaleRun:
    """A run still called RUNNING whose process is gone."""

    run_id: str
    product: str
    step: str
    owner: str


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names; lists as JSON, values cut to what MLflow takes."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            text = json.dumps(value) if isinstance(value, list | tuple) else str(value)
            flat[f"{prefix}{name}"] = text[:MAX_PARAM_CHARACTERS]
    return flat


def this_process() -> str:
    """`host/pid/start`: names this process so that no other one, also after a reboot, has the same name."""
    return f"{platform.node()}/{os.getpid()}/{psutil.Process().create_time():.0f}"


def is_dead(owner: str) -> bool:
    """Whether the owner was a process of this host and is gone. A process of another host is never called dead."""
    host, pid, started_s = owner.rsplit("/", 2)
    if host != platform.node():
        return False
    try:
        process = psutil.Process(int(pid))
        is_same = abs(process.create_time() - float(started_s)) < SAME_START_S
        return not is_same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Tracking:
    """Writes runs into the store at `config.mlflow_uri`; MLflow is imported at the first use."""

    def __init__(self, config: Settings, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self._clock = clock
        (config.folder / "mlflow").mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(config.folder / "mlflow" / "tracking.lock")

    @cached_property
    def client(self) -> MlflowClient:
        return tracking_store.connect(self.config)

    def experiment(self, product: str) -> str:
        """The id of the product's experiment, made or brought back when missing."""
        with self._lock:
            known = self.client.get_experiment_by_name(product)
            if known is None:
                location = tracking_store.artifact_location(self.config, product)
                return str(self.client.create_experiment(product, artifact_location=location))
            if known.lifecycle_stage == "deleted":
                self.client.restore_experiment(known.experiment_id)
            return str(known.experiment_id)

    def lifecycle_run(
        self, product: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None, name: str = ""
    ) -> TrackedRun:
        """The parent run with this key: the finished one as it is, an interrupted one taken over, or a new one.

        Raises RunBusyError when another living process has it.
        """
        own = {KEY: key, STEP: LIFECYCLE, **(tags or {})}
        return self._open(self.experiment(product), own, params, name or f"{product} {key[:8]}")

    def step_run(
        self,
        parent: TrackedRun,
        step: str,
        key: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedRun:
        """The child run of `parent` for this step and key, like `lifecycle_run`."""
        own = {KEY: key, STEP: step, PARENT: parent.run_id, **(tags or {})}
        return self._open(parent.experiment_id, own, params or {}, step)

    def _open(self, experiment_id: str, tags: Mapping[str, str], params: Mapping[str, Any], name: str) -> TrackedRun:
        cut = {tag: str(value)[:MAX_TAG_CHARACTERS] for tag, value in {**tags, OWNER: this_process()}.items()}
        with self._lock:
            run = self._find(experiment_id, {tag: tags[tag] for tag in (KEY, STEP, PARENT) if tag in tags})
            if run is None:
                run = self.client.create_run(experiment_id, tags=cut, run_name=name)
            elif run.info.status != "FINISHED":
                self._take_over(run, cut)
        is_finished = run.info.status == "FINISHED"
        if not is_finished:
            self.log_params(run.info.run_id, params)
        return TrackedRun(
            run_id=run.info.run_id, step=tags[STEP], key=tags[KEY], experiment_id=experiment_id, finished=is_finished
        )

    def _find(self, experiment_id: str, tags: Mapping[str, str]) -> Run | None:
        wanted = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        found = self.client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time ASC"])
        return found[0] if found else None

    def _take_over(self, run: Run, tags: Mapping[str, str]) -> None:
        owner = run.data.tags.get(OWNER, "")
        if run.info.status == "RUNNING" and owner not in ("", tags[OWNER]) and not is_dead(owner):
            raise RunBusyError(f"run {run.info.run_id}: expected to be free, got process {owner} at work on it")
        self.set_tags(run.info.run_id, tags)
        self.client.update_run(run.info.run_id, status="RUNNING")

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log nested settings; those already there stay as they are, MLflow never changes a parameter."""
        from mlflow.entities import Param

        flat = flatten(params)
        known = self.client.get_run(run_id).data.params if flat else {}
        new = [Param(name, value) for name, value in flat.items() if name not in known]
        for start in range(0, len(new), MAX_PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=new[start : start + MAX_PARAMS_PER_BATCH])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        cut = [RunTag(name, str(value)[:MAX_TAG_CHARACTERS]) for name, value in tags.items()]
        self.client.log_batch(run_id, tags=cut)

    def log_epochs(self, run_id: str, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Log records: the epoch's `number` and numeric fields. Epochs logged before a kill are not logged again."""
        if not epochs:
            return
        names = [name for name in epochs[0] if name != "number"]
        last = max((point.step for point in self.client.get_metric_history(run_id, names[0])), default=-1)
        rows = [(int(epoch["number"]), {name: epoch[name] for name in names}) for epoch in epochs]
        self._log_points(run_id, [row for row in rows if row[0] > last])

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], step: int = 0, model_id: str | None = None
    ) -> None:
        """Log figures of one moment, such as those of the judging; with `model_id` they show on that model's page."""
        self._log_points(run_id, [(step, metrics)], model_id)

    def _log_points(
        self, run_id: str, rows: Sequence[tuple[int, Mapping[str, Any]]], model_id: str | None = None
    ) -> None:
        from mlflow.entities import Metric

        now_ms = int(self._clock() * 1000)
        points = [
            Metric(name, float(value), now_ms, step, model_id=model_id, run_id=run_id)
            for step, values in rows
            for name, value in values.items()
            if isinstance(value, Real)
        ]
        for start in range(0, len(points), MAX_METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=points[start : start + MAX_METRICS_PER_BATCH])

    def log_dataset(
        self,
        run_id: str,
        name: str,
        digest: str,
        source: str,
        columns: Mapping[str, str],
        profile: Mapping[str, Any],
        contexts: Sequence[str] = ("train", "test"),
    ) -> None:
        """Attach a snapshot. columns: name -> MLflow type (`double`, `string`). The profile holds the whole digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        fields = [{"type": kind, "name": column, "required": True} for column, kind in columns.items()]
        dataset = Dataset(
            name=name,
            digest=digest[:MAX_DIGEST_CHARACTERS],
            source_type="s3" if source.startswith("s3://") else "local",
            source=json.dumps({"uri": source}),
            schema=json.dumps({"mlflow_colspec": fields}),
            profile=json.dumps({"digest": digest, **profile}),
        )
        tags = [InputTag("mlflow.data.context", ", ".join(contexts))]
        self.client.log_inputs(run_id, [DatasetInput(dataset, tags)])

    def log_files(self, run_id: str, folder: Path, path: str = "") -> None:
        """Copy a folder, or one file, under `path` of the run's artifacts."""
        if folder.is_dir():
            self.client.log_artifacts(run_id, str(folder), path or None)
        else:
            self.client.log_artifact(run_id, str(folder), path or None)

    def log_figures(self, run_id: str, folder: Path) -> None:
        """The pictures that people look at, under `figures/`."""
        self.log_files(run_id, folder, "figures")

    def log_table(self, run_id: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table that the UI shows under Evaluation, replacing one of the same name (MLflow's own appends)."""
        columns = list(rows[0]) if rows else []
        table = {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
        path = f"tables/{name}.json"
        self.client.log_dict(run_id, table, path)
        listed = json.loads(self.client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
        if all(entry["path"] != path for entry in listed):
            self.set_tags(run_id, {"mlflow.loggedArtifacts": json.dumps([*listed, {"path": path, "type": "table"}])})

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        """End a run: FINISHED, FAILED or KILLED."""
        with contextlib.redirect_stdout(sys.stderr):  # MLflow prints an address, and stdout belongs to `--json`
            self.client.set_terminated(run_id, status)

    def stale_runs(self) -> list[StaleRun]:
        """Runs called RUNNING whose process, one of this host, is dead."""
        return list(_stale_runs(self.client))

    def mark_failed(self, run: StaleRun) -> None:
        """What `doctor --fix` does to a stale run; a rerun with its key still takes it over."""
        self.set_tags(run.run_id, {"roadworthy.ended_by": f"doctor: process {run.owner} is gone"})
        self.finish(run.run_id, "FAILED")


def _stale_runs(client: MlflowClient) -> Iterator[StaleRun]:
    names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    running = f"attributes.status = 'RUNNING' and tags.`{OWNER}` LIKE '{platform.node()}/%'"
    for run in client.search_runs(list(names), running, max_results=1000):
        tags = run.data.tags
        if is_dead(tags[OWNER]):
            yield StaleRun(run.info.run_id, names[run.info.experiment_id], tags.get(STEP, ""), tags[OWNER])
