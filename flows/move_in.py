"""An embedded home becomes a services home; objects, runs, versions go along.

Done before MLflow starts for the first time, and again whenever it was interrupted: objects are put under the same
keys, rows in one transaction. The old database is renamed last, the old folders stay. Prefect's own history does not go
along.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from flows import console
from flows.workshop import Workshop
from infra.move_in import move_rows
from infra.objects import NUM_THREADS, TREE, StoredObject, in_threads
from infra.postgres import MLFLOW, dsn
from infra.storage import FolderStore
from infra.tracking_store import artifact_folder

DATABASE = Path("mlflow") / "mlflow.db"
MOVED = ".moved"


def has_to_move(shop: Workshop) -> bool:
    """Whether this home has runs of its embedded time that PostgreSQL does not know."""
    return (shop.home / DATABASE).exists()


def move_in(shop: Workshop) -> dict[str, int]:
    """Take everything along; returns how many objects, artifact files and rows. PostgreSQL and S3 answer."""
    num_objects = _objects(shop, shop.home / "store")
    artifacts = artifact_folder(shop.config)
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    in_threads(lambda path: shop.store.put(f"mlflow/{path.relative_to(artifacts)}", path), files, NUM_THREADS)
    database = shop.home / DATABASE
    num_rows = move_rows(database, dsn(shop.config, MLFLOW, driver="psycopg"), artifacts)
    database.rename(database.with_name(database.name + MOVED))
    console.say(f"moved in: {num_objects} objects, {len(files)} artifact files, {num_rows} rows of MLflow")
    return {"objects": num_objects, "files": len(files), "rows": num_rows}


def _objects(shop: Workshop, folder: Path) -> int:
    """Every object under its own key; the tree of a folder, which makes it visible, after what it lists."""
    if not folder.is_dir():
        return 0
    old = FolderStore(folder)

    def move(found: StoredObject) -> None:
        with TemporaryDirectory(dir=shop.home) as beside:
            shop.store.put(found.key, old.get(found.key, Path(beside) / "object"))

    all_found = list(old.list())
    for is_tree in (False, True):
        some = [found for found in all_found if found.key.endswith(f"/{TREE}") == is_tree]
        in_threads(move, some, NUM_THREADS)
    return len(all_found)
