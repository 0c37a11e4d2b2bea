"""One contract, kept by a folder and by a real S3 server."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.settings import Settings
from infra.storage import (
    TREE,
    AlreadyThereError,
    FolderStore,
    IntegrityError,
    NotThereError,
    StorageError,
    Store,
    StoredObject,
    hash_of,
    open_store,
)

RunKilled = Callable[[str, Path, Settings], None]
REPOSITORY = Path(__file__).parents[2]
ODD_KEY = "some folder/näher ☂ [1] %41+&='\"#?.bin"
KILLED_PUT_FOLDER = """
import itertools, os, signal, sys
from pathlib import Path
from infra.settings import Settings
from infra.storage import open_store
store, count = open_store(Settings()), itertools.count()
put = store.put
store.put = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL) if next(count) == 30 else put(*a, **k)
store.put_folder("whole", Path(sys.argv[1]))
"""
KILLED_PUT = """
import os, signal, sys
import infra.storage
infra.storage.sync_file = lambda file: (file.flush(), os.kill(os.getpid(), signal.SIGKILL))
infra.storage.FolderStore(infra.storage.Path(sys.argv[1])).put_bytes("a/b", b"new" * 1000)
"""


@pytest.fixture
def store(store_settings: Settings) -> Store:
    return open_store(store_settings)


def damage(store: Store, key: str, data: bytes) -> None:
    """Change the bytes of an object behind the store's back, and leave the recorded hash as it was."""
    if isinstance(store, FolderStore):
        (store.root / key).write_bytes(data)
    else:
        store._bucket.put(store._name(key), data, store.stat(key).sha256)


def some_folder(folder: Path, num_files: int = 60) -> Path:
    for number in range(num_files):
        path = folder / f"part {number % 7}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode() * number)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(100_000)], ids=["empty", "one", "many"])
def test_what_was_put_is_got(store: Store, tmp_path: Path, data: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(data)
    expected = StoredObject(ODD_KEY, len(data), hash_of(data))
    assert store.put(ODD_KEY, source) == expected
    assert store.stat(ODD_KEY) == expected
    assert store.get(ODD_KEY, target) == target
    assert target.read_bytes() == store.get_bytes(ODD_KEY) == data
    assert store.put_bytes("other", data).sha256 == expected.sha256
    assert leftovers(target.parent) == []


def test_put_replaces_and_get_replaces(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for data in (b"old", b"new", b"old"):
        store.put_bytes("a/b", data)
        assert store.get(key="a/b", target=target).read_bytes() == data
    assert [found.size for found in store.list()] == [3]


def test_missing(store: Store, tmp_path: Path) -> None:
    store.put_bytes("a/b/c", b"there")
    for key in ("a", "a/b", "a/b/c/d", "z"):
        assert not store.exists(key)
        for ask in (store.stat, store.get_bytes, lambda key: store.get(key, tmp_path / "target")):
            with pytest.raises(NotThereError, match="got none"):
                ask(key)
        store.delete(key)
    assert store.exists("a/b/c")
    assert list(tmp_path.glob("*target*")) == []


def test_delete_and_put_again(store: Store) -> None:
    store.put_bytes("a/b", b"first")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert list(store.list()) == []
    store.put_bytes("a/b", b"second", if_absent=True)
    assert store.get_bytes("a/b") == b"second"


def test_list_is_by_folder(store: Store) -> None:
    keys = {"a/b", "a/c/d", "a/c/.e", "ab", "f"}
    for key in keys:
        store.put_bytes(key, key.encode())
    assert {found.key for found in store.list()} == keys
    assert {found.key for found in store.list("a")} == {"a/b", "a/c/d", "a/c/.e"}
    assert {(found.key, found.size) for found in store.list("a/c")} == {("a/c/d", 5), ("a/c/.e", 6)}
    assert list(store.list("none")) == []


@pytest.mark.parametrize("key", ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\nb", "\0", ".objects/a",
                                 ".pending/a", "\ud800", "a" * 201, "a/" * 300 + "a"])  # fmt: skip
def test_bad_keys_are_refused_everywhere(store: Store, tmp_path: Path, key: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"")
    asks: list[Callable[[], object]] = [
        lambda: store.put(key, source), lambda: store.put_bytes(key, b""), lambda: store.get(key, tmp_path / "t"),
        lambda: store.get_bytes(key), lambda: store.exists(key), lambda: store.delete(key),
    ]  # fmt: skip
    for ask in [*asks, *([lambda: list(store.list(key))] if key else [])]:
        with pytest.raises(StorageError, match=r"expected .*(bytes|leading|part|backslash)"):
            ask()


def test_if_absent(store: Store) -> None:
    first = store.put_bytes("a", b"first", if_absent=True)
    assert store.put_bytes("a", b"first", if_absent=True) == first
    with pytest.raises(AlreadyThereError, match="other content"):
        store.put_bytes("a", b"other", if_absent=True)
    assert store.get_bytes("a") == b"first"


def test_if_absent_race_has_one_winner(store: Store) -> None:
    def put(number: int) -> int | None:
        try:
            store.put_bytes("contested", str(number).encode() * 1000, if_absent=True)
        except AlreadyThereError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(put, range(8)) if number is not None]
    assert len(won) == 1
    assert store.get_bytes("contested") == str(won[0]).encode() * 1000


def test_readers_see_old_or_new_while_a_key_is_replaced(store: Store) -> None:
    values = [bytes([number]) * 50_000 for number in range(8)]
    store.put_bytes("busy", values[0])
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(store.put_bytes, "busy", value) for value in values]
        assert all(store.get_bytes("busy") in values for _ in range(20))
    assert all(written.exception() is None for written in writing)


@pytest.mark.parametrize("data", [b"changed", b"", b"whole bytes"])
def test_damage_is_found(store: Store, tmp_path: Path, data: bytes) -> None:
    store.put_bytes("a", b"right bytes")
    damage(store, "a", data)
    target = tmp_path / "got" / "target"
    with pytest.raises(IntegrityError, match=f"a: expected sha256 {hash_of(b'right bytes')}, got {hash_of(data)}"):
        store.get("a", target)
    with pytest.raises(IntegrityError):
        store.get_bytes("a")
    assert not target.exists()
    assert leftovers(tmp_path / "got") == []


def test_folder_there_and_back(store: Store, tmp_path: Path) -> None:
    source = some_folder(tmp_path / "source")
    put = store.put_folder("runs/1", source)
    assert store.put_folder("runs/1", source, if_absent=True) == put
    assert store.has_folder("runs/1")
    assert not store.has_folder("runs")
    target = store.get_folder("runs/1", tmp_path / "target")
    assert content(target) == content(source)
    (target / "extra").write_bytes(b"x")
    (target / "part 1" / "1.bin").write_bytes(b"damaged")
    assert content(store.get_folder("runs/1", target)) == content(source)
    assert leftovers(tmp_path / "target") == []
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "target", "home"}


def test_folder_with_other_content(store: Store, tmp_path: Path) -> None:
    source = some_folder(tmp_path / "source", 9)
    store.put_folder("f", source)
    (source / "part 1" / "1.bin").rename(source / "renamed")
    with pytest.raises(AlreadyThereError, match="f: expected none"):
        store.put_folder("f", source, if_absent=True)
    store.put_folder("f", source)
    assert {found.key for found in store.list("f")} == {f"f/{name}" for name in [*content(source), TREE]}
    assert content(store.get_folder("f", tmp_path / "target")) == content(source)
    store.delete_folder("f")
    assert list(store.list()) == []


def test_folder_is_invisible_until_whole_after_a_kill(
    store: Store, store_settings: Settings, run_killed: RunKilled, tmp_path: Path
) -> None:
    source = some_folder(tmp_path / "source")
    run_killed(KILLED_PUT_FOLDER, source, store_settings)
    assert 0 < len(list(store.list("whole"))) < 60
    assert not store.has_folder("whole")
    with pytest.raises(NotThereError, match="expected a whole folder at whole"):
        store.get_folder("whole", tmp_path / "target")
    store.put_folder("whole", source)
    assert content(store.get_folder("whole", tmp_path / "target")) == content(source)


@pytest.mark.parametrize("name", ["part 3/3.bin", TREE])
def test_a_damaged_folder_is_not_got(store: Store, tmp_path: Path, name: str) -> None:
    store.put_folder("f", some_folder(tmp_path / "source"))
    damage(store, f"f/{name}", b"{}")
    with pytest.raises(IntegrityError, match=name):
        store.get_folder("f", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_replaced_file_is_not_taken_for_the_folders(store: Store, tmp_path: Path) -> None:
    store.put_folder("f", some_folder(tmp_path / "source"))
    store.put_bytes("f/part 3/3.bin", b"put beside the folder")
    with pytest.raises(IntegrityError, match=r"part 3/3\.bin"):
        store.get_folder("f", tmp_path / "target")


def test_several_getting_one_folder_at_once(store: Store, tmp_path: Path) -> None:
    source = some_folder(tmp_path / "source", 20)
    store.put_folder("f", source)
    with ThreadPoolExecutor(4) as pool:
        for target in pool.map(lambda _: store.get_folder("f", tmp_path / "target"), range(4)):
            assert content(target) == content(source)


def test_what_is_no_plain_folder_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="expected a folder, got nothing"):
        store.put_folder("f", tmp_path / "none")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="expected a plain file"):
        store.put_folder("f", tmp_path / "linked")
    assert list(store.list()) == []


def test_a_killed_put_leaves_the_old_content(run_killed: RunKilled, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    for number in range(2):
        run_killed(KILLED_PUT, store.root, Settings(home=tmp_path))
        assert store.exists("a/b") == bool(number)
        store.put_bytes("a/b", b"old")
    assert store.get_bytes("a/b") == b"old"
    contents = [path for path in (store.root / ".objects").rglob("*") if path.is_file() and path.parent.name != "locks"]
    assert len(contents) == 1


def test_a_key_below_another_key_is_explained(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.put_bytes("a", b"file")
    with pytest.raises(StorageError, match="put a/b: "):
        store.put_bytes("a/b", b"")
    assert [found.key for found in store.list()] == ["a"]


def test_only_a_folder_or_s3(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gs://bucket: expected a folder or s3://bucket/prefix"):
        open_store(Settings(home=tmp_path, store="gs://bucket"))
    with pytest.raises(StorageError, match="got no bucket"):
        open_store(Settings(home=tmp_path, store="s3://"))


def test_the_import_is_light() -> None:
    light = "import sys, infra.storage; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    subprocess.run([sys.executable, "-c", light], cwd=REPOSITORY, check=True)
