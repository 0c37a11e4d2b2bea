"""What only S3 has: parts, resuming over the network, and its errors."""

import os
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from infra.s3_parts import plan_parts
from infra.settings import Settings
from infra.storage import AlreadyThereError, IntegrityError, NotThereError, StorageError, hash_of
from infra.storage_s3 import S3Store

PART = 16 << 20
RunKilled = Callable[[str, Path, Settings], None]
KILL_AFTER = """
import itertools, os, signal, sys, threading
from pathlib import Path
from infra.settings import Settings
from infra.storage import open_store
store, count = open_store(Settings()), itertools.count(1)
events = store._bucket.client.meta.events
def kill(**_):
    if next(count) == NUM:
        os.kill(os.getpid(), signal.SIGKILL)
events.register("EVENT", kill)
store.ACTION("big", Path(sys.argv[1]))
"""


def killing(event: str, num: int, action: str) -> str:
    return KILL_AFTER.replace("EVENT", event).replace("NUM", str(num)).replace("ACTION", action)


@pytest.fixture
def store(s3_settings: Settings) -> S3Store:
    return S3Store(s3_settings)


def watch(store: S3Store, operation: str) -> list[dict[str, Any]]:
    """The parameters of every request of one kind that the store will send."""
    seen: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        seen.append(dict(params))

    store._bucket.client.meta.events.register(f"provide-client-params.s3.{operation}", note)
    return seen


def big_file(path: Path, num_bytes: int) -> Path:
    path.write_bytes(os.urandom(num_bytes))
    return path


def notes(store: S3Store) -> list[str]:
    pages = store._bucket.client.list_objects_v2(Bucket=store._bucket.name, Prefix=f"{store._start}.pending/")
    return [found["Key"] for found in pages.get("Contents", ())]


@pytest.mark.services
def test_large_objects_move_in_parts(store: S3Store, tmp_path: Path) -> None:
    source = big_file(tmp_path / "source", 40_000_000)
    sent, fetched = watch(store, "UploadPart"), watch(store, "GetObject")
    stored = store.put("big", source)
    assert sorted(len(one["Body"]) for one in sent) == [40_000_000 - 2 * PART, PART, PART]
    assert store._bucket.client.head_object(Bucket=store._bucket.name, Key=store._name("big"))["ETag"].endswith('-3"')
    assert stored == store.stat("big")
    assert store.get("big", tmp_path / "target").read_bytes() == source.read_bytes()
    assert [one["Range"].split("-")[0] for one in fetched[-3:]] == ["bytes=0", f"bytes={PART}", f"bytes={2 * PART}"]
    assert hash_of(store.get_bytes("big")) == stored.sha256
    assert notes(store) == []
    assert [found.key for found in store.list()] == ["big"]


@pytest.mark.services
def test_a_killed_upload_goes_on(store: S3Store, s3_settings: Settings, run_killed: RunKilled, tmp_path: Path) -> None:
    source = big_file(tmp_path / "source", 6 * PART + 5)
    run_killed(killing("after-call.s3.UploadPart", 3, "put"), source, s3_settings)
    assert not store.exists("big")
    assert len(notes(store)) == 1
    assert list(store.list()) == []
    sent = watch(store, "UploadPart")
    stored = store.put("big", source)
    assert 0 < len(sent) <= 4  # of 7
    assert store.get("big", tmp_path / "target").read_bytes() == source.read_bytes()
    assert store.stat("big") == stored
    assert notes(store) == []


@pytest.mark.services
def test_a_killed_upload_does_not_mix_with_other_content(
    store: S3Store, s3_settings: Settings, run_killed: RunKilled, tmp_path: Path
) -> None:
    source = big_file(tmp_path / "source", 3 * PART + 5)
    run_killed(killing("after-call.s3.UploadPart", 2, "put"), source, s3_settings)
    with source.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    sent = watch(store, "UploadPart")
    stored = store.put("big", source)
    assert len(sent) == 4
    assert store.stat("big").sha256 == stored.sha256 == plan_parts(source).sha256
    store.get("big", tmp_path / "target")


@pytest.mark.services
def test_an_upload_that_the_store_dropped_begins_again(
    store: S3Store, s3_settings: Settings, run_killed: RunKilled, tmp_path: Path
) -> None:
    source = big_file(tmp_path / "source", 2 * PART)
    run_killed(killing("after-call.s3.UploadPart", 1, "put"), source, s3_settings)
    client, name = store._bucket.client, store._name("big")
    for upload in client.list_multipart_uploads(Bucket=store._bucket.name, Prefix=name)["Uploads"]:
        client.abort_multipart_upload(Bucket=store._bucket.name, Key=name, UploadId=upload["UploadId"])
    store.put("big", source)
    assert store.get("big", tmp_path / "target").read_bytes() == source.read_bytes()


@pytest.mark.services
def test_a_killed_download_goes_on(
    store: S3Store, s3_settings: Settings, run_killed: RunKilled, tmp_path: Path
) -> None:
    source = big_file(tmp_path / "source", 8 * PART + 5)
    store.put("big", source)
    target = tmp_path / "got" / "target"
    run_killed(killing("before-call.s3.GetObject", 8, "get"), target, s3_settings)
    assert not target.exists()
    [part] = target.parent.iterdir()
    num_bytes_there = part.stat().st_size
    assert 0 < num_bytes_there < source.stat().st_size
    fetched = watch(store, "GetObject")
    assert store.get("big", target).read_bytes() == source.read_bytes()
    assert fetched[1]["Range"].startswith(f"bytes={num_bytes_there}-")
    assert len(fetched) - 1 < 9
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.services
def test_a_download_of_what_is_replaced_meanwhile_is_whole(store: S3Store, tmp_path: Path) -> None:
    old, new = big_file(tmp_path / "old", 5 * PART), big_file(tmp_path / "new", 5 * PART)
    store.put("big", old)
    other = [S3Store.put]

    def replace(params: dict[str, Any], **_: Any) -> None:
        if "Range" in params and f"={PART}-" in params["Range"] and other:
            other.pop()(store, "big", new)

    store._bucket.client.meta.events.register("provide-client-params.s3.GetObject", replace)
    assert store.get("big", tmp_path / "target").read_bytes() == new.read_bytes()
    assert not other


@pytest.mark.services
def test_a_damaged_large_object_is_found(store: S3Store, tmp_path: Path) -> None:
    source = big_file(tmp_path / "source", 2 * PART)
    store.put("big", source)
    store._bucket.put(store._name("big"), b"?" + source.read_bytes()[1:], store.stat("big").sha256)
    with pytest.raises(IntegrityError, match="expected sha256"):
        store.get("big", tmp_path / "got" / "target")
    assert list((tmp_path / "got").iterdir()) == []


@pytest.mark.services
def test_an_object_without_a_recorded_hash_is_refused(store: S3Store) -> None:
    store._bucket.client.put_object(Bucket=store._bucket.name, Key=store._name("foreign"), Body=b"who knows")
    with pytest.raises(IntegrityError, match="on record, found none"):
        store.get_bytes("foreign")


@pytest.mark.services
def test_if_absent_race_of_large_files_has_one_winner(store: S3Store, tmp_path: Path) -> None:
    sources = [big_file(tmp_path / str(number), PART + 100) for number in range(4)]

    def put(source: Path) -> Path | None:
        try:
            store.put("big", source, if_absent=True)
        except AlreadyThereError:
            return None
        return source

    with ThreadPoolExecutor(4) as pool:
        won = [source for source in pool.map(put, sources) if source]
    assert len(won) == 1
    assert store.get("big", tmp_path / "target").read_bytes() == won[0].read_bytes()
    assert store.put("big", won[0], if_absent=True) == store.stat("big")
    uploads = store._bucket.client.list_multipart_uploads(Bucket=store._bucket.name, Prefix=store._start)
    assert uploads.get("Uploads", []) == []
    assert notes(store) == []


@pytest.mark.services
def test_one_large_file_put_by_several_at_once(store: S3Store, tmp_path: Path) -> None:
    source = big_file(tmp_path / "source", PART + 100)
    with ThreadPoolExecutor(3) as pool:
        puts = set(pool.map(lambda _: store.put("big", source), range(3)))
    assert puts == {store.stat("big")}
    assert store.get("big", tmp_path / "target").read_bytes() == source.read_bytes()


@pytest.mark.services
def test_a_source_that_changes_while_it_is_put_is_refused(store: S3Store, tmp_path: Path) -> None:
    source = big_file(tmp_path / "source", 2 * PART)

    def change(**_: Any) -> None:
        source.write_bytes(b"\0" * 2 * PART)

    store._bucket.client.meta.events.register("before-call.s3.CreateMultipartUpload", change)
    with pytest.raises(IntegrityError, match="changed while it was put"):
        store.put("big", source)
    assert not store.exists("big")
    source.write_bytes(b"1" * 2 * PART)
    store._bucket.client.meta.events.register("before-call.s3.HeadObject", change)
    with pytest.raises(IntegrityError, match="source while it was put"):
        store.put("other", source, if_absent=True)


@pytest.mark.services
def test_lists_over_several_pages(store: S3Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.put_bytes(f"many/{number}", b"x"), range(1010)))
    assert len({found.key for found in store.list("many")}) == 1010


def asks(store: S3Store, tmp_path: Path) -> list[Callable[[], object]]:
    return [
        lambda: store.put_bytes("a", b""), lambda: store.get_bytes("a"), lambda: store.exists("a"),
        lambda: list(store.list()), lambda: store.get("a", tmp_path / "target"),
    ]  # fmt: skip


@pytest.mark.services
def test_wrong_credentials_are_explained_without_being_shown(s3_settings: Settings, tmp_path: Path) -> None:
    wrong = SecretStr("this-is-the-wrong-secret")
    access = s3_settings.s3_access_key
    assert access is not None
    for change in ({"s3_secret_key": wrong}, {"s3_access_key": SecretStr("nobody"), "s3_secret_key": wrong}):
        store = S3Store(s3_settings.model_copy(update=change))
        for ask in asks(store, tmp_path):
            with pytest.raises(StorageError, match=r"refused \(.*ROADWORTHY_S3_SECRET_KEY") as caught:
                ask()
            shown = "".join(traceback.format_exception(caught.value)) + repr(store.__dict__)
            assert wrong.get_secret_value() not in shown


@pytest.mark.services
def test_a_missing_bucket_is_explained(s3_settings: Settings, tmp_path: Path) -> None:
    store = S3Store(s3_settings.model_copy(update={"store": "s3://no-such-bucket/prefix"}))
    for ask in asks(store, tmp_path):
        with pytest.raises(StorageError, match=r"no-such-bucket at http.*the bucket is missing; create it") as caught:
            ask()
        assert not isinstance(caught.value, NotThereError)


def test_an_unreachable_endpoint_is_explained(tmp_path: Path) -> None:
    config = Settings(
        home=tmp_path, store="s3://bucket", s3_endpoint="http://127.0.0.1:9", s3_access_key="a", s3_secret_key="b"
    )
    store = S3Store(config, num_attempts=1)
    for ask in asks(store, tmp_path):
        with pytest.raises(StorageError, match=r"127\.0\.0\.1:9: .* cannot be reached .* ROADWORTHY_S3_ENDPOINT"):
            ask()
    with pytest.raises(StorageError, match="correct ROADWORTHY_S3_ENDPOINT"):
        S3Store(config.model_copy(update={"s3_endpoint": "no address"}))


def test_missing_credentials_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = S3Store(Settings(home=tmp_path, store="s3://bucket", s3_endpoint="http://127.0.0.1:9"))
    with pytest.raises(StorageError, match="no credentials found; check ROADWORTHY_S3_ACCESS_KEY"):
        store.get_bytes("a")


def test_every_attempt_cuts_alike(tmp_path: Path) -> None:
    source = big_file(tmp_path / "source", PART + 1)
    plan = plan_parts(source)
    assert plan == plan_parts(source)
    assert [(part.number, part.start, part.size) for part in plan.parts] == [(1, 0, PART), (2, PART, 1)]
    assert plan.sha256 == hash_of(source.read_bytes())
