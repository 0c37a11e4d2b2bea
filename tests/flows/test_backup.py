"""A home is backed up, lost, and put back elsewhere: same ids, same answers, same ledger; faults come halfway."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from flows import restore as restoring
from flows.backup_place import OWN_KEY, split_address, verify
from flows.backup_take import take_backup
from flows.doctor import examine
from flows.live import parcel_folder
from flows.options import UsageError
from flows.restore import Wish, restore
from flows.restore_drill import run_drill
from flows.trust import sign_parcel, verify_seals
from flows.trust import verify as verify_signed
from flows.workshop import Workshop
from infra.backup import BackupError
from infra.backup_sources import is_secret
from infra.objects import StorageError
from infra.settings import Settings
from tests.flows.tiny_home import LIKE, tiny_home

pytestmark = pytest.mark.services  # a real MLflow store, or processes: too slow for the fast suite

PARENT = {"params": {"a": 1}, "tags": {}}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two versions, a run with an artifact, a signature, a seal, a bento and secrets."""
    folder = tmp_path_factory.mktemp("backup")
    shop = tiny_home(folder / "home", LIKE)
    run = shop.tracking.lifecycle_run("tiny", "key", PARENT["params"])
    (folder / "note.txt").write_text("an artifact")
    shop.tracking.log_files(run.run_id, folder / "note.txt")
    shop.tracking.finish(run.run_id)
    (live,) = [entry for entry in shop.ledger.entries("tiny") if entry.action == "promote"]
    sign_parcel(shop, parcel_folder(shop, live.details["digest"]))
    from flows.trust import seal_ledgers

    seal_ledgers(shop)
    assert len(shop.masking_key) == 32
    bento = shop.home / "bentoml" / "bentos" / "tiny" / "v1"
    bento.mkdir(parents=True)
    (bento / "bento.yaml").write_text("name: tiny\n" * 10)
    (bento / "empty").touch()
    (bento / "run.sh").write_bytes(b"#!/bin/sh\n")
    (bento / "run.sh").chmod(0o755)
    return folder


@pytest.fixture
def shop(template: Path, tmp_path: Path) -> Workshop:
    """A home of its own where the template was, which is moved away for it."""
    shutil.copytree(template / "home", tmp_path / "home", symlinks=True)
    home = tmp_path / "home"
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            pair = (str(template / "home"), str(home))
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", pair)
    return Workshop(Settings(home=home))


def empty_home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "other place" / "home")


def content(home: Path) -> dict[str, bytes]:
    left_out = ("cache", "ops", "run", "keys", ".restore", "ledger", "parcels")
    return {
        name: path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
        and (name := path.relative_to(home).as_posix()).split("/")[0] not in left_out
        and not name.endswith((".lock", "-wal", "-shm", ".db"))
        and "/locks/" not in name
    }


def test_an_empty_home_becomes_the_same_home(shop: Workshop, tmp_path: Path) -> None:
    record = take_backup(shop)
    assert record["place"] == f"{shop.home}.backups"
    assert {"keys/signing.key", "keys/masking.key"} <= set(record["lacks"])
    shop.home.rename(tmp_path / "lost")
    other = Workshop(empty_home(tmp_path))
    found = restore(other.config, Wish(record["place"]))
    assert found["ok"]
    assert {row["ids"]: row["now"] for row in found["ids"]} == {
        "experiments": 2, "runs": 1, "logged_models": 0, "versions": 2, "aliases": 1,
    }  # fmt: skip
    assert [(row["product"], row["verdict"]) for row in found["golden"]] == [("tiny", "equal")]
    assert content(other.home) == content(tmp_path / "lost")
    assert (other.home / "bentoml" / "bentos" / "tiny" / "v1" / "run.sh").stat().st_mode & 0o777 == 0o755
    _check_that_it_lives(other, tmp_path / "lost")


def _check_that_it_lives(other: Workshop, old: Path) -> None:
    """The chain goes on with the restore, seals and signatures hold under a new key, and MLflow finds its files."""
    before = Workshop(Settings(home=old)).ledger.entries()
    after = other.ledger.entries()
    assert after[:-1] == before
    assert (after[-1].action, after[-1].details["entries"]) == ("restore", len(before))
    assert other.ledger.verify() == len(after)
    assert [(one.reason, one.num_seals) for one in verify_seals(other)] == [("", 1)]
    assert examine(other)["ok"]
    assert verify_signed(other, "tiny").digest
    (run,) = other.tracking.client.search_runs([other.tracking.experiment("tiny")])
    assert run.info.artifact_uri.startswith(f"file://{other.home}/mlflow".replace(" ", "%20"))
    assert Path(other.tracking.client.download_artifacts(run.info.run_id, "note.txt")).read_text() == "an artifact"


def test_a_second_backup_holds_only_what_is_new(shop: Workshop) -> None:
    first = take_backup(shop)
    (shop.home / "data").mkdir()
    (shop.home / "data" / "new.csv").write_bytes(b"1,2,3")
    second = take_backup(shop)
    assert (first["new_pieces"] > 10, second["new_pieces"]) == (True, 1)
    for record in (first, second):
        assert verify(shop.config, record["address"])["id"] == record["id"]


def test_only_a_sealed_backup_holds_secrets_and_opens_with_its_key(shop: Workshop, tmp_path: Path) -> None:
    key = tmp_path / "backup.key"
    key.write_text("correct horse battery staple\n")
    record = take_backup(shop, str(tmp_path / "vault"), key_file=key)
    assert (record["encrypted"], record["lacks"]) == (True, [])
    secret = (shop.home / "keys" / "masking.key").read_bytes().strip()
    stored = [path.read_bytes() for path in (tmp_path / "vault").rglob("*") if path.is_file()]
    assert not any(
        secret in one or b"BEGIN PRIVATE" in one or b"tiny" in one for one in stored if b"payload" not in one
    )
    other = empty_home(tmp_path)
    with pytest.raises(BackupError, match="--key-file"):
        restore(other, Wish(record["address"]))
    restore(other, Wish(record["address"], key_file=key, trusted=shop.home / "keys" / "signing.pub"))
    assert Workshop(other).masking_key == shop.masking_key
    assert (other.folder / "keys" / "signing.key").stat().st_mode & 0o777 == 0o600


def test_a_key_is_made_where_none_is_named(shop: Workshop) -> None:
    record = take_backup(shop, encrypt=True)
    assert (shop.home / OWN_KEY).stat().st_mode & 0o777 == 0o600
    assert verify(shop.config, record["address"])["pieces"] > 10


def test_a_home_in_use_is_left_alone(shop: Workshop) -> None:
    record = take_backup(shop)
    with pytest.raises(UsageError, match="expected an empty home"):
        restore(shop.config, Wish(record["place"]))


def test_somebody_elses_backup_is_refused_where_one_says_whom_to_believe(shop: Workshop, tmp_path: Path) -> None:
    record = take_backup(shop)
    stranger = Workshop(Settings(home=tmp_path / "stranger"))
    from flows.trust import own_key

    own_key(stranger)
    with pytest.raises(UsageError, match="not among those of"):
        restore(empty_home(tmp_path), Wish(record["place"], trusted=stranger.home / "keys" / "signing.pub"))


def test_nothing_is_put_in_place_where_one_piece_is_damaged(shop: Workshop, tmp_path: Path) -> None:
    record = take_backup(shop)
    blob = next(path for path in Path(record["place"]).glob("blobs/*/*") if path.read_bytes()[:1] == b"\0")
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")  # behind the store's back
    other = empty_home(tmp_path)
    with pytest.raises(BackupError, match="nothing was put in place"):
        restore(other, Wish(record["place"]))
    assert {path.name for path in other.folder.iterdir()} <= {".restore", ".restore.lock"}


@pytest.mark.parametrize("after", ["_put_objects", "_put_database", "_put_ledgers"])
def test_a_restore_that_was_cut_off_goes_on_and_takes_effect_once(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    record, other, whole = take_backup(shop), empty_home(tmp_path), getattr(restoring, after)

    def cut_off(*arguments: Any) -> Any:
        whole(*arguments)
        raise StorageError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(restoring, after, cut_off)
        with pytest.raises(StorageError):
            restore(other, Wish(record["place"]))
    took_effect = (other.folder / "ledger").exists()
    assert took_effect == (after == "_put_ledgers")
    newer = take_backup(shop)
    with pytest.raises(UsageError, match=f"unfinished restore of {record['id']}"):
        restore(other, Wish(newer["place"]))
    restore(other, Wish(record["address"]))
    actions = [entry.action for entry in Workshop(other).ledger.entries()]
    assert (actions.count("restore"), actions[:-1]) == (1, [one.action for one in shop.ledger.entries()])
    assert examine(Workshop(other))["ok"]


def test_a_backup_lies_outside_what_it_protects(shop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="outside"):
        take_backup(shop, str(shop.home / "backups"))
    in_bucket = shop.config.model_copy(update={"store": "s3://road/a"})
    with pytest.raises(UsageError, match="another bucket"):
        take_backup(Workshop(in_bucket), "s3://road/backups")


@pytest.mark.services
def test_objects_and_backups_may_lie_on_s3(shop: Workshop, s3_settings: Settings, tmp_path: Path) -> None:
    fields = ("store", "s3_endpoint", "s3_access_key", "s3_secret_key")
    on_s3 = {name: getattr(s3_settings, name) for name in fields}
    moved = Workshop(shop.config.model_copy(update=on_s3))
    for found in shop.store.list():
        moved.store.put_bytes(found.key, shop.store.get_bytes(found.key))
    shutil.rmtree(shop.home / "store")
    record = take_backup(moved)
    other = empty_home(tmp_path)
    place = {f"backup_{name}": value for name, value in on_s3.items() if isinstance(value, SecretStr | str)}
    on_s3_too = other.model_copy(update=place)
    assert restore(on_s3_too, Wish(record["place"]))["objects"] == record["num_objects"]
    assert examine(Workshop(other))["ok"]
    again = take_backup(Workshop(on_s3_too), f"{on_s3['store']}/backups")
    assert restore(on_s3_too.model_copy(update={"home": tmp_path / "third"}), Wish(again["address"]))["ok"]


def test_the_drill_touches_neither_home_nor_store(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_backup(shop)
    before = content(shop.home)
    monkeypatch.setenv("ROADWORTHY_STORE", str(tmp_path / "a store that is not to be touched"))
    record = run_drill(shop)
    assert [row["verdict"] for row in record["golden"]] == ["equal"]
    assert json.loads((shop.home / "ops" / "drill.json").read_text())["ok"]
    assert content(shop.home) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "home.backups"]
    assert not (shop.home / "cache" / "drill").exists()
    for blob in Path(record["place"]).glob("blobs/*/*"):
        blob.unlink()
    with pytest.raises(BackupError, match="cannot be restored"):
        run_drill(shop)
    assert not json.loads((shop.home / "ops" / "drill.json").read_text())["ok"]


def test_words_for_a_backup() -> None:
    one = "20261122T030000123Z-ae02d3"
    for text in (f"/b/{one}", f"/b/backups/{one}.json"):
        assert split_address(text) == ("/b", one)
    assert split_address(one) == ("", one)
    assert split_address("s3://road/b") == ("s3://road/b", "")


def test_what_of_a_home_is_secret() -> None:
    secrets = ("keys/signing.key", "keys/services.json", "keys/local.key", "keys/anything.new")
    assert all(is_secret(name) for name in secrets)
    public = ("keys/signing.pub", "keys/trusted/a.pub", "keys/api_keys.json", "data/keys.csv")
    assert not any(is_secret(name) for name in public)
