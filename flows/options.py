"""What several commands take, and the errors that they turn into a message."""

import json
from importlib import import_module
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on stdout, everything else on stderr.")]
Recipe = Annotated[str, typer.Argument(help="task/family, e.g. forecast/stid; `roadworthy catalog` lists them.")]
Settings = Annotated[list[str], typer.Option("--set", help="A recipe setting, e.g. train.num_epochs=5; repeatable.")]
Product = Annotated[str, typer.Option("--product", help="Registered name; default: the data set's name.")]
NO_SETTINGS: list[str] = []
ProductName = Annotated[str, typer.Argument(help="A product, e.g. freeway.")]

_ERRORS = (
    "models.catalog:UnknownNameError",
    "models.recipe:RecipeError",
    "models.data.findings:BadDataError",
    "models.data.snapshot:SnapshotError",
    "models.training.checkpoint:CheckpointError",
    "models.compression.pruning:CannotPruneError",
    "models.compression.space:SpaceError",
    "models.artifact.export:ExportError",
    "models.artifact.manifest:ParcelError",
    "models.artifact.checks:InputError",
    "models.compression.watermark:WatermarkError",
    "services.bento:BentoError",
    "services.admission:GuardError",
    "infra.api_keys:TokenError",
    "services.router_client:RouterGoneError",
    "services.router_config:RouterConfigError",
    "infra.api_keys:ApiKeyError",
    "infra.deployments:DeploymentError",
    "infra.supervise:SupervisorError",
    "infra.captures:CaptureError",
    "infra.containers:EngineError",
    "infra.manifests:ManifestError",
    "infra.sbom:BillError",
    "infra.keys:KeyFileError",
    "infra.ledger:LedgerError",
    "infra.objects:StorageError",
    "infra.promotion:PromotionRefused",
    "infra.aliases:RegistryError",
    "infra.stack:StackError",
    "infra.backup:BackupError",
    "infra.collect:CollectError",
    "infra.prometheus:PrometheusError",
    "infra.profile:ProfileError",
    "flows.schedules_apply:ScheduleError",
    "infra.postgres:PostgresError",
    "infra.seaweedfs:SeaweedError",
    "services.tracing:TracingError",
    "infra.tracking:RunBusyError",
    "flows.options:UsageError",
    "flows.demo:NotServedError",
    "pydantic:ValidationError",
)


class UsageError(ValueError):
    """The user's words do not fit; the message says what was expected."""


def known_errors() -> tuple[type[Exception], ...]:
    """The errors with a message for people; anything else is a defect and keeps its traceback."""
    import sys

    loaded = (name.partition(":") for name in _ERRORS if name.partition(":")[0] in sys.modules)
    return tuple(getattr(import_module(module), error) for module, _, error in loaded)


def parse_settings(words: list[str]) -> dict[str, Any]:
    """`key=value` pairs; a value is read as JSON where it is JSON, as text otherwise. Raises UsageError."""
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word}: expected key=value, e.g. --set train.num_epochs=5")
        settings[key] = _value(text)
    return settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
