"""Holds every model of one process: versions, ensembles and tenants' overlays.

It replaces all of them at once.

A request finds its model in one immutable catalogue and keeps it to its end, so a swap drops none. A folder that fails
is not served: at start the process stays alive to say why on `/readyz`, and after a swap the old models stay.
"""

import re
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path

import msgspec

from infra.keys import KeyFileError
from infra.settings import ServiceSettings
from models.artifact.ensemble import differences
from models.artifact.signature import read_signed_file
from services.answers import Refusal
from services.batcher import Batcher
from services.observe import Metrics
from services.openapi import openapi
from services.page import render
from services.runtime import (
    LOG,
    RELEASE_FILE,
    BatcherOf,
    RefusedParcelError,
    Served,
    Trust,
    open_ensemble,
    open_served,
)  # fmt: skip
from services.schemas import Overlay, Release, ServicePlan

MODELS_FOLDER, PLAN_FILE, PLAN_SIGNATURE = "models", "service.json", "service.sig"

_FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/:,'\"]+/)+")  # in front of a file's name

Versions = dict[str, Served]  # by version, newest last


@dataclass(frozen=True)
class Catalogue:
    """What one folder serves; `default` is a model's name, and the version of it in `first`."""

    first: Served
    models: dict[str, Versions]
    tenants: dict[str, Overlay] = field(default_factory=dict)
    overlaid: dict[tuple[str, str, str], Served] = field(default_factory=dict)  # by tenant, model and version

    @property
    def default(self) -> str:
        return self.first.release.product

    @property
    def names(self) -> dict[str, list[str]]:
        return {name: list(versions) for name, versions in self.models.items()}

    @cached_property
    def document(self) -> bytes:
        """OpenAPI of everything served, made when somebody first asks."""
        first = self.first
        return msgspec.json.encode(openapi(first.manifest, first.release, first.example, self.names))

    @cached_property
    def page(self) -> bytes:
        """The page for people."""
        return render(self.first.manifest, self.first.release, self.first.example, self.names)


class Host:
    """The models of one serving process."""

    def __init__(
        self,
        folder: Path,
        settings: ServiceSettings,
        metrics: Metrics | None = None,
        batcher: type[Batcher] = Batcher,
    ) -> None:
        """`folder` holds `parcel/`, `parcel.sig` and `release.json`, and what else services/README names."""
        self._folder, self._settings, self._batcher = folder, settings, batcher
        self._metrics = metrics or Metrics()
        self._trust: Trust | None = None
        self._held: Catalogue | None = None
        self._swapping = threading.Lock()  # of two at once the later one is served, with its own limits
        self.reason = "the parcel is not loaded yet"
        self.deadline_s = settings.deadline_ms / 1000

    def default_of(self, tenant: str) -> str:
        """Name of the model that this tenant means where it names none; empty while nothing is served."""
        if self._held is None:
            return ""
        overlay = self._held.tenants.get(tenant)
        return (overlay and overlay.model) or self._held.default

    @property
    def served(self) -> Served | None:
        """The default model, or None while nothing is served."""
        return self._held.first if self._held else None

    def load(self) -> None:
        """Verify, warm up, then serve; on any failure stay unready, log it and keep the reason."""
        started = time.perf_counter()
        try:
            self._trust = Trust.of(self._folder, self._settings)
            self._serve(self._opened(self._folder, self._trust))
        except Exception as error:  # the service edge: whatever a broken parcel raises, it must not be served
            self.reason = _for_strangers(error)
            LOG.exception("refused to serve the parcel in %s", self._folder)
            return
        self.reason = ""
        LOG.info("ready: %s, after %.0f ms", self._named(), 1000 * (time.perf_counter() - started))

    def swap(self, folder: Path) -> None:
        """Serve what is in `folder` instead, under the keys trusted at start; takes a while, for a thread.

        Raises RefusedParcelError when anything is not as released; then nothing changed.
        """
        with self._swapping:
            try:
                trust = self._trust or Trust.of(self._folder, self._settings)
                catalogue = self._opened(folder, trust)
            except Exception as error:  # the service edge: as in `load`
                LOG.exception("refused to swap to %s", folder)
                raise RefusedParcelError(f"{type(error).__name__}: {error}") from error
            self._trust, self._folder = trust, folder
            self._serve(catalogue)
            self.reason = ""
        LOG.info("swapped: %s", self._named())

    def find(self, name: str = "", version: str = "", tenant: str = "") -> Served:
        """The model that a request means, in its tenant's words; raises Refusal 404, or 503 while nothing is served."""
        held = self._held or self._catalogue()
        if not name and not version and not tenant:
            return held.first
        overlay = held.tenants.get(tenant)
        if overlay is None:
            return _found(held, name, version)
        if not name:
            name, version = overlay.model, version or overlay.version
        served = _found(held, name, version)
        key = (tenant, served.release.product, str(served.release.version))
        return held.overlaid.get(key, served)

    def names(self) -> dict[str, list[str]]:
        """Versions of every model, newest last; empty while nothing is served."""
        return self._held.names if self._held else {}

    def document(self) -> bytes:
        """OpenAPI as JSON; raises Refusal 503 while nothing is served."""
        return self._catalogue().document

    def page(self) -> bytes:
        """The page for people, which says why when nothing is served."""
        return self._held.page if self._held else render(None, None, reason=self.reason)

    def _catalogue(self) -> Catalogue:
        if self._held is None:
            raise Refusal(503, "no model is served", "parcel", "a verified parcel", self.reason)
        return self._held

    def _serve(self, catalogue: Catalogue) -> None:
        self._held = catalogue
        self._metrics.serving(
            [
                (one.release.product, str(one.release.version), one.release.parcel_digest)
                for versions in catalogue.models.values()
                for one in versions.values()
            ]
        )

    def _named(self) -> str:
        return ", ".join(f"{name}/{version}" for name, versions in self.names().items() for version in versions)

    def _opened(self, folder: Path, trust: Trust) -> Catalogue:
        plan = _plan(folder, trust)
        limits = (("batch_window_ms", plan.limits.batch_window_ms), ("deadline_ms", plan.limits.deadline_ms))
        window_ms, deadline_ms = (
            getattr(self._settings, name) if planned is None or name in self._settings.model_fields_set else planned
            for name, planned in limits
        )
        batcher = partial(
            self._batcher,
            window_s=window_ms / 1000,
            deadline_s=deadline_ms / 1000,
            load=self._metrics.load,
            batched=self._metrics.batched,
        )
        catalogue = _catalogue(folder, trust, plan, batcher)
        self.deadline_s = deadline_ms / 1000
        return catalogue


def _catalogue(folder: Path, trust: Trust, plan: ServicePlan, batcher: BatcherOf) -> Catalogue:
    first = open_served(folder, trust, batcher)
    _check_plan(folder, first.release)
    opened = [first]
    for path in sorted((folder / MODELS_FOLDER).glob(f"*/*/{RELEASE_FILE}")):
        served = open_served(path.parent, trust, batcher)
        if (served.release.product, str(served.release.version)) != (path.parent.parent.name, path.parent.name):
            raise RefusedParcelError(f"{path.parent}: expected its own release, got {served.model_version}")
        opened.append(served)
    models: dict[str, Versions] = {}
    for served in sorted(opened, key=lambda one: one.release.version):
        versions = models.setdefault(served.release.product, {})
        if str(served.release.version) in versions:
            raise RefusedParcelError(f"{folder.name}: {served.model_version} is there twice")
        versions[str(served.release.version)] = served
    for name, ensemble in plan.ensembles.items():
        if name in models:
            raise RefusedParcelError(f"ensemble {name}: a model has that name")
        members = [_member(models, name, member) for member in ensemble.members]
        models[name] = {"1": open_ensemble(name, members, ensemble.weights, batcher)}
    catalogue = Catalogue(first, models, dict(plan.tenants))
    for tenant, overlay in plan.tenants.items():
        _overlay(catalogue, tenant, overlay)
    return catalogue


def _member(models: dict[str, Versions], ensemble: str, member: str) -> Served:
    name, _, version = member.partition("/")
    if version not in models.get(name, {}):
        known = ", ".join(f"{name}/{version}" for name, versions in models.items() for version in versions)
        raise RefusedParcelError(f"ensemble {ensemble}: expected members among {known}, got {member}")
    return models[name][version]


def _overlay(catalogue: Catalogue, tenant: str, overlay: Overlay) -> None:
    """Make what this tenant gets; its own model must take and give what the default one does."""
    chosen = _chosen(catalogue, overlay.model, overlay.version)
    if chosen is None:
        raise RefusedParcelError(f"tenant {tenant}: {overlay.model}/{overlay.version} is not served from this folder")
    if differing := differences(catalogue.first.manifest, chosen.manifest):
        raise RefusedParcelError(f"tenant {tenant}: {chosen.model_version} has another contract: {differing}")
    if not overlay.labels and not overlay.thresholds:
        return
    for name, versions in catalogue.models.items():
        for version, served in versions.items():
            if not differences(catalogue.first.manifest, served.manifest):
                catalogue.overlaid[tenant, name, version] = served.overlaid(overlay)


def _chosen(held: Catalogue, name: str, version: str) -> Served | None:
    """The model of this name and version; without a version the newest, of the default model the released one."""
    name = name or held.default
    versions = held.models.get(name)
    if not versions:
        return None
    if version:
        return versions.get(version)
    return held.first if name == held.default else list(versions.values())[-1]


def _found(held: Catalogue, name: str, version: str) -> Served:
    served = _chosen(held, name, version)
    if served is None:
        if (name or held.default) not in held.models:
            raise Refusal(404, "unknown model", "model", f"one of {', '.join(held.models)}", name[:200])
        known = ", ".join(held.models[name or held.default])
        raise Refusal(404, "unknown version", f"model {name or held.default}", f"one of {known}", version[:200])
    return served


def _for_strangers(error: Exception) -> str:
    """Why nothing is served, as `/readyz` tells anybody: no folder of this machine, no word of a key service."""
    kind = type(error).__name__
    return f"{kind}: see the log" if isinstance(error, KeyFileError) else f"{kind}: {_FOLDERS.sub('', str(error))}"


def _check_plan(folder: Path, release: Release) -> None:
    """Raises RefusedParcelError where the release was packed with another plan: tenants' limits are not to be lost."""
    path = folder / PLAN_FILE
    digest = sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"
    if release.plan_digest and digest != release.plan_digest:
        raise RefusedParcelError(f"{PLAN_FILE}: expected {release.plan_digest[:12]}, got {digest[:12]}")


def _plan(folder: Path, trust: Trust) -> ServicePlan:
    """The plan of this folder, verified before it is parsed."""
    path = folder / PLAN_FILE
    if not path.exists():
        return ServicePlan()
    if trust.keys is None:
        return ServicePlan.model_validate_json(path.read_bytes())
    return ServicePlan.model_validate_json(read_signed_file(path, folder / PLAN_SIGNATURE, trust.keys)[1])
