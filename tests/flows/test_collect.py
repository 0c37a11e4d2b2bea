"""Garbage collection: whatever is registered, promoted, rolled back, deleted and collected, every root still loads."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flows.collect import collect, undo
from flows.collect_roots import find_roots
from flows.live import parcel_folder
from flows.workshop import Workshop, now
from infra.collect import CollectError, dates, purge
from infra.ledger import Ledger
from infra.promotion import Evidence, PromotionRefused, standing
from infra.refs import ModelRef
from infra.registry import Registry
from infra.settings import Settings
from infra.storage import FolderStore
from models.artifact.manifest import hash_files, read_and_verify, write_manifest
from models.artifact.predictor import Predictor
from tests.services.conftest import make_parcel

pytestmark = pytest.mark.services  # a real MLflow store, or processes: too slow for the fast suite

PRODUCT = "tiny"


class Home:
    """A home on a shared registry: versions with evaluation and snapshot, as a lifecycle leaves them."""

    def __init__(self, shop: Workshop, parcel: Path) -> None:
        self.shop, self.parcel = shop, parcel
        self.versions: dict[int, ModelRef] = {}

    def make(self, number: int) -> tuple[str, str]:
        """A parcel of its own data with its evaluation, baseline and snapshot; its digest, and the evaluation."""
        data = f"{number:064x}"
        prepared, evaluated = f"steps/prepare/{number:032x}", f"steps/evaluate/{number:032x}"
        digests = {name: self._parcel(number, name, data) for name in ("candidate", "baseline")}
        self.shop.store.put_bytes(f"{prepared}/snapshot.json", data.encode())
        self.shop.store.put_bytes(f"snapshots/{data}", prepared.encode())
        record = {"data": {"key": prepared, "digest": data}, "parcels": digests, "champion": None}
        self.shop.store.put_bytes(f"{evaluated}/evaluation.json", json.dumps(record).encode())
        return digests["candidate"], evaluated

    def register(self, number: int) -> None:
        digest, evaluated = self.make(number)
        ref = self.shop.registry.register(
            PRODUCT, digest=digest, source=f"runs:/{number:032x}/parcel", run_id=f"{number:032x}",
            evidence=Evidence(f"e{number}", True), tags={"roadworthy.evaluation": evaluated},
        )  # fmt: skip
        self.versions[ref.version] = ref

    def promote(self, number: int) -> None:
        ref = self._version(number)
        if ref:
            found = [e for e in self.shop.ledger.entries(PRODUCT) if e.action == "register"]
            evidence = next(e.details["evidence"] for e in found if e.details["version"] == ref.version)
            self.shop.registry.promote(ref, evidence)

    def delete(self, number: int) -> None:
        ref = self._version(number)
        if ref:
            try:
                self.shop.registry.delete(PRODUCT, ref.version)
            except PromotionRefused:
                return
            del self.versions[ref.version]

    def rollback(self, _number: int) -> None:
        if standing(self.shop.ledger.entries(PRODUCT)).before:
            self.shop.registry.rollback(PRODUCT)

    def litter(self, number: int) -> None:
        """What a lifecycle leaves that was never registered."""
        self.make(1000 + number)

    def gc(self, _number: int) -> None:
        collect(self.shop, days=-1)

    def undo(self, _number: int) -> None:
        for date in dates(self.shop.home, self.shop.store):
            undo(self.shop, date)

    def check(self) -> None:
        """Every version that nobody deleted can be served, judged again and traced to its data."""
        shutil.rmtree(self.shop.home / "cache", ignore_errors=True)
        for ref in self.versions.values():
            folder = parcel_folder(self.shop, ref.digest)
            assert Predictor.open(folder).golden_difference == 0
            tags = self.shop.registry.version_tags(ref)
            record = json.loads(self.shop.store.get_bytes(f"{tags['roadworthy.evaluation']}/evaluation.json"))
            for digest in record["parcels"].values():
                read_and_verify(parcel_folder(self.shop, digest))
            address = self.shop.store.get_bytes(f"snapshots/{read_and_verify(folder).data_digest}").decode()
            assert self.shop.store.get_bytes(f"{address}/snapshot.json")

    def _version(self, number: int) -> ModelRef | None:
        refs = list(self.versions.values())
        return refs[number % len(refs)] if refs else None

    def _parcel(self, number: int, name: str, data: str) -> str:
        folder = self.shop.home / "made" / f"{name}-{number}"
        shutil.copytree(self.parcel, folder, dirs_exist_ok=True)
        (folder / "card.md").write_text(f"{name} {number}")
        manifest = read_and_verify(self.parcel).model_copy(update={"files": hash_files(folder), "data_digest": data})
        digest = write_manifest(folder, manifest)
        self.shop.store.put_folder(f"parcels/{digest}", folder)
        return digest


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A folder, a parcel, and the client of one real MLflow store for all examples."""
    folder = tmp_path_factory.mktemp("collect")
    make_parcel(folder / "parcel", "forecast")
    client = Registry(Settings(home=folder / "shared"), Ledger(folder / "shared" / "ledger" / "ledger.jsonl")).client
    return folder, folder / "parcel", client


def opened(base: tuple[Path, Path, Any], home: Path) -> Home:
    """An empty home; the models of the one before are gone from MLflow."""
    folder, parcel, client = base
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    shared = Settings(home=folder / "shared").mlflow_uri
    return Home(Workshop(Settings(home=home, tracking_uri=shared)), parcel)


@pytest.fixture
def home(base: tuple[Path, Path, Any], tmp_path: Path) -> Iterator[Home]:
    yield opened(base, tmp_path / "home")


ACTIONS = ("register", "register", "promote", "promote", "delete", "rollback", "litter", "gc", "undo")
Steps = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5)), min_size=4, max_size=12)


WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # which takes minutes of real registry


@settings(
    max_examples=5, deadline=None, phases=WITHOUT_SHRINKING, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=Steps)
def test_every_root_still_loads_after_anything(
    base: tuple[Path, Path, Any], tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    home = opened(base, tmp_path_factory.mktemp("example") / "home")
    home.register(0)
    for action, number in (*steps, ("gc", 0)):
        getattr(home, action)(number)
    home.check()


def test_what_nobody_owns_is_set_aside_comes_back_and_goes_for_good_after_two_weeks(home: Home) -> None:
    home.register(0)
    home.promote(0)
    home.litter(1)
    store = home.shop.store
    before = {found.key: found.sha256 for found in store.list()}
    planned = collect(home.shop, days=-1, dry_run=True)
    assert {found.key: found.sha256 for found in store.list()} == before
    counts = {row["kind"]: (row["owned"], row["unowned"]) for row in planned["kinds"]}
    assert (counts["parcels"], counts["steps"], counts["snapshots"]) == ((2, 2), (2, 2), (1, 1))
    assert collect(home.shop, days=14)["kinds"][0]["unowned"] == 0  # young
    record = collect(home.shop, days=-1)
    assert [entry.action for entry in home.shop.ledger.entries()][-1] == "collect"
    home.check()
    assert undo(home.shop, record["date"])["objects"] > 8
    assert {found.key: found.sha256 for found in store.list()} == before
    collect(home.shop, days=-1)
    assert purge(home.shop.home, store, now() + timedelta(days=13), 14) == []
    assert purge(home.shop.home, store, now() + timedelta(days=16), 14) == [record["date"]]
    home.check()
    with pytest.raises(CollectError, match="expected a date with a quarantine"):
        undo(home.shop, record["date"])


def test_a_version_registered_while_its_parcel_was_collected_gets_it_back(home: Home) -> None:
    home.register(0)
    home.litter(1)
    collect(home.shop, days=-1)
    home.register(1001)
    home.shop.store.delete_folder(f"parcels/{home.versions[2].digest}")  # its put came before the parcel was moved
    collect(home.shop, days=-1)
    home.check()


def test_nothing_is_collected_from_a_store_that_has_lost_what_is_live(home: Home) -> None:
    home.register(0)
    home.promote(0)
    home.litter(1)
    home.shop.store.delete_folder(f"parcels/{home.versions[1].digest}")
    with pytest.raises(CollectError, match="expected what is live"):
        collect(home.shop, days=-1)
    assert not dates(home.shop.home, home.shop.store)


def test_bentos_and_work_of_others_are_set_aside_by_renaming(home: Home) -> None:
    home.register(0)
    home.promote(0)
    ref, folder = home.versions[1], home.shop.home
    kept = folder / "bentoml" / "bentos" / PRODUCT / f"v1-{ref.digest[:12]}"
    old = folder / "bentoml" / "bentos" / PRODUCT / "v9-0123456789ab"
    work = folder / "work" / "fit" / ("a" * 32)
    for path in (kept, old, work):
        path.mkdir(parents=True)
        (path / "file").write_text("x")
    for path in (old, work):
        for one in (path / "file", path):
            os.utime(one, (time.time() - 20 * 86400,) * 2)
    record = collect(home.shop, days=14)
    assert (kept.exists(), old.exists(), work.exists()) == (True, False, False)
    assert undo(home.shop, record["date"])["files"] == 2
    assert (old / "file").exists()
    assert (work / "file").exists()


def test_roots_are_reached_from_the_ledger(home: Home) -> None:
    home.register(0)
    roots = find_roots(home.shop)
    assert {address.split("/")[0] for address in roots.addresses} == {"parcels", "steps", "snapshots"}
    assert not roots.missing
    assert isinstance(home.shop.store, FolderStore)
