"""A home whose live version has a real training snapshot, and captures of traffic at any time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.capture import spool_folder
from flows.workshop import Workshop
from infra.promotion import PROMOTE, REGISTER
from infra.settings import Settings
from infra.spool import Made, Record, SegmentWriter, frame, tensor_of
from models.artifact.predictor import Predictor
from models.data.card import Channel, Contract
from models.data.series import Series
from models.data.snapshot import Manifest, write_snapshot
from models.data.windows import clock
from services.answers import sortable_id
from tests.services.conftest import HORIZON_STEPS, NODES, PAST_STEPS, make_parcel

DAY = 96
UNTIL = datetime(2024, 6, 5, 12, 0, tzinfo=UTC)  # a Wednesday


def speeds(first: np.datetime64, num_steps: int, seed: int = 1) -> NDArray[np.float32]:
    """(S, 3, 1) km/h from a time on: a daily jam, slow waves, noise."""
    random = np.random.default_rng(seed)
    slot = clock(first + np.arange(num_steps) * np.timedelta64(15, "m"), 15.0)[:, 0]
    rush = np.exp(-((slot - 32) ** 2) / 60) + np.exp(-((slot - 70) ** 2) / 80)
    wave = np.convolve(random.normal(0, 1, num_steps + 40), np.ones(40) / 40**0.5, "valid")[:num_steps]
    levels = np.array([90.0, 80.0, 70.0])
    values = levels * (1 - 0.4 * rush[:, None]) + 2 * wave[:, None] + random.normal(0, 2, (num_steps, 3))
    return values.astype(np.float32)[..., None]


def monitored_home(home: Path, num_days: int = 28) -> Workshop:
    """The product `tiny`, version 1 live, trained on `num_days` that end a week before `UNTIL`."""
    shop = Workshop(Settings(home=home))
    digest = make_parcel(home / "parcels" / "1", "forecast")
    shop.store.put_folder(f"parcels/{digest}", home / "parcels" / "1")
    _put_snapshot(shop, home / "snapshot", num_days)
    passed = {"version": 1, "digest": digest, "evidence": "e1"}
    shop.ledger.append(REGISTER, "tiny", run_id="1" * 32, passed=True, reasons=[], **passed)
    shop.ledger.append(PROMOTE, "tiny", **passed)
    return shop


def _put_snapshot(shop: Workshop, folder: Path, num_days: int) -> None:
    first = np.datetime64("2024-05-29T00:00", "us") - np.timedelta64(num_days, "D")
    num_steps = num_days * DAY
    time = first + np.arange(num_steps) * np.timedelta64(15, "m")
    series = Series(time, speeds(first, num_steps), NODES, ("speed_kmh",), ("km/h",), 15.0)
    cuts = [round(num_steps * share) for share in (0.7, 0.8)]
    manifest = Manifest(
        name="tiny", task="forecast", title="", source="", licence="", span="", past_steps=PAST_STEPS,
        contract=Contract(channels=(Channel(name="speed_kmh", unit="km/h"),)), horizon_steps=HORIZON_STEPS,
        train_share=0.7, val_share=0.1, gap_steps=0, labelled_share=1.0, num_rows=num_steps, missing_share=0.0,
        splits={"train": (0, cuts[0]), "val": (cuts[0], cuts[1]), "test": (cuts[1], num_steps)}, findings=(),
        nodes=NODES, channels=("speed_kmh",), units=("km/h",), cadence_min=15.0, slots_per_day=DAY,
    )  # fmt: skip
    write_snapshot(folder, manifest, series)
    shop.store.put_folder("steps/prepare/k", folder)
    shop.store.put_bytes("snapshots/d", b"steps/prepare/k")


def capture_traffic(
    shop: Workshop, hours: float = 24, until: datetime = UNTIL, seed: int = 5,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda values: values,
) -> list[str]:  # fmt: skip
    """Requests of the last `hours`, one each 15 minutes, answered by the live parcel; returns the ids, oldest first."""
    predictor = Predictor.open(shop.home / "parcels" / "1")
    num_windows = round(hours * 4)
    last = np.datetime64(until.replace(tzinfo=None), "us") - np.timedelta64(15, "m")
    first = last - (num_windows + PAST_STEPS - 2) * np.timedelta64(15, "m")
    values = change(speeds(first, num_windows + PAST_STEPS - 1, seed))
    writer = SegmentWriter(spool_folder(shop, "tiny"), 1, Made(digest="e", facts={}))
    ids = []
    for place in range(num_windows):
        x = values[None, place : place + PAST_STEPS]
        mask = np.isfinite(x).astype(np.float32)
        time = first + (place + PAST_STEPS - 1) * np.timedelta64(15, "m")
        inputs = {"x": np.where(mask > 0, x, 0).astype(np.float32), "mask": mask, "clock": clock(time[None], 15.0)}
        answered = time.astype(datetime).replace(tzinfo=UTC) + timedelta(minutes=1)
        ids.append(_append(writer, predictor, inputs, answered))
    writer.close()
    return ids


def _append(
    writer: SegmentWriter, predictor: Predictor, inputs: dict[str, NDArray[np.generic]], answered: datetime
) -> str:
    time_us = round(answered.timestamp() * 1e6)
    prediction_id = f"{time_us // 1000:012x}"
    prediction_id = f"{prediction_id[:8]}-{prediction_id[8:]}{sortable_id()[13:]}"
    record = Record(
        prediction_id=prediction_id, time_us=time_us, product="tiny", version=1,
        parcel_digest=predictor.manifest.digest(), protocol="http", tenant="", key_id="", release="{}",
        environment="e", inputs={name: tensor_of(one) for name, one in inputs.items()},
        outputs={"forecast": tensor_of(predictor.predict(inputs))},
    )  # fmt: skip
    writer.append(frame(record))
    return prediction_id
