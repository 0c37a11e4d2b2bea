"""Monitoring a task whose requests have no place in time: images against the training reference, labels told later."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flows.capture import spool_folder
from flows.labels import add_labels
from flows.monitor_look import look_at
from flows.workshop import Workshop
from infra.promotion import PROMOTE, REGISTER
from infra.settings import Settings
from infra.spool import Made, Record, SegmentWriter, frame, tensor_of
from models.artifact import tensors
from models.artifact.predictor import Predictor
from models.data.card import Contract
from models.data.series import Images
from models.data.snapshot import Manifest, write_snapshot
from services.answers import sortable_id
from tests.flows.monitored_home import UNTIL
from tests.services.conftest import CLASSES, IMAGE_SHAPE, make_parcel

NUM, SPLITS = 900, {"train": (0, 600), "val": (600, 700), "test": (700, 900)}


def pictures(num: int, seed: int, brightness: float = 120.0) -> NDArray[np.uint8]:
    """(S, 1, 3, 3)."""
    random = np.random.default_rng(seed)
    return random.normal(brightness, 30, (num, *IMAGE_SHAPE)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """The product `tiny` is live; it calls every picture "one", which one in ten of the reference is not."""
    shop = Workshop(Settings(home=tmp_path / "home"))
    digest = make_parcel(shop.home / "parcels" / "1", "classify")
    shop.store.put_folder(f"parcels/{digest}", shop.home / "parcels" / "1")
    labels = (np.random.default_rng(1).random(NUM) > 0.1).astype(np.int64)
    manifest = Manifest(
        name="tiny", task="classify", title="", source="", licence="", span="", past_steps=0, horizon_steps=0,
        contract=Contract(classes=CLASSES, image_shape=IMAGE_SHAPE), train_share=0.7, val_share=0.1, gap_steps=0,
        labelled_share=1.0, num_rows=NUM, missing_share=0.0, splits=SPLITS, findings=(), classes=CLASSES,
        image_shape=IMAGE_SHAPE,
    )  # fmt: skip
    write_snapshot(tmp_path / "snapshot", manifest, Images(pictures(NUM, 2), labels, CLASSES))
    shop.store.put_folder("steps/prepare/k", tmp_path / "snapshot")
    shop.store.put_bytes("snapshots/d", b"steps/prepare/k")
    passed = {"version": 1, "digest": digest, "evidence": "e1"}
    shop.ledger.append(REGISTER, "tiny", run_id="1" * 32, passed=True, reasons=[], **passed)
    shop.ledger.append(PROMOTE, "tiny", **passed)
    return shop


def capture(shop: Workshop, images: NDArray[np.uint8], hours_ago: float = 2.0) -> list[str]:
    predictor = Predictor.open(shop.home / "parcels" / "1")
    writer = SegmentWriter(spool_folder(shop, "tiny"), 1, Made(digest="e", facts={}))
    ids = []
    for place, image in enumerate(images):
        inputs = {"x": image[None].astype(np.float32) / 255}
        outputs = tensors.outputs(predictor.manifest, predictor.predict(inputs))
        time_us = round((UNTIL - timedelta(hours=hours_ago)).timestamp() * 1e6) + 1000 * place
        prefix = f"{time_us // 1000:012x}"
        ids.append(f"{prefix[:8]}-{prefix[8:]}{sortable_id()[13:]}")
        record = Record(
            prediction_id=ids[-1], time_us=time_us, product="tiny", version=1, protocol="http", tenant="", key_id="",
            parcel_digest=predictor.manifest.digest(), release="{}", environment="e",
            inputs={"x": tensor_of(inputs["x"])}, outputs={name: tensor_of(one) for name, one in outputs.items()},
        )  # fmt: skip
        writer.append(frame(record))
    writer.close()
    return ids


def test_pictures_like_those_of_the_reference_are_quiet_and_darker_ones_are_not(shop: Workshop) -> None:
    capture(shop, pictures(10, 3))
    few = look_at(shop, "tiny", 24, UNTIL, 2.0)
    assert (few.report.status, few.num_requests) == ("too few requests", 10)
    capture(shop, pictures(200, 4))
    quiet = look_at(shop, "tiny", 24, UNTIL, 2.0)
    assert (quiet.report.status, quiet.num_requests) == ("no retraining needed", 210)
    later = UNTIL + timedelta(days=2)
    capture(shop, pictures(200, 5, brightness=70.0), hours_ago=-46.0)
    loud = look_at(shop, "tiny", 24, later, 2.0).report
    assert loud.status == "retraining needed"
    assert "distribution of x" in loud.reasons[0]


def test_wrong_classes_told_later_are_worse(shop: Workshop, tmp_path: Path) -> None:
    ids = capture(shop, pictures(200, 6))
    file = tmp_path / "labels.csv"
    truths = ("zero" if place % 5 < 2 else "one" for place in range(len(ids)))
    file.write_text(
        "prediction_id,truth\n" + "\n".join(f"{one},{truth}" for one, truth in zip(ids, truths, strict=True))
    )
    add_labels(shop, "tiny", file)
    report = look_at(shop, "tiny", 24, UNTIL, 2.0).report
    assert report.reasons[0].startswith("worse: error is ")
    assert report.figures["error_live"] == pytest.approx(0.4)
    assert report.figures["error_usual"] == pytest.approx(0.1, abs=0.05)
