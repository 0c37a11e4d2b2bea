"""Ships captured predictions from the spools to the object store, and shows the newest."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.workshop import Workshop
from infra import captures
from infra.captures import CaptureError
from infra.objects import StorageError
from infra.spool import OPEN, Record, Tensor, is_being_written, segments
from infra.supervise import Program

SPOOL = "spool"
CLOSED_WITHIN_S = 15.0  # a service closes a segment 10 s after its first record
POLL_S = 0.2


def spool_folder(shop: Workshop, product: str) -> Path:
    """Where every service of this product on this machine captures to; replicas share it."""
    return shop.home / SPOOL / product


def spools(shop: Workshop, product: str = "") -> list[Path]:
    """The spools of a product, or of all, that exist here."""
    return sorted(path for path in (shop.home / SPOOL).glob(product or "*") if path.is_dir())


def ship(shop: Workshop, product: str = "", *, now: bool = False) -> list[dict[str, Any]]:
    """Ship what is ready, of one product or all; with `now` first wait for segments that are still written.

    One record per spool. Raises StorageError, CaptureError, OSError.
    """
    shipped = []
    for spool in spools(shop, product):
        if now:
            _wait_until_closed(spool)
        done = captures.ship(spool, shop.store)
        shipped.append(
            {
                "product": spool.name,
                "segments": done.num_segments,
                "predictions": done.num_records,
                "damaged": done.num_damaged,
                "keys": list(done.keys),
            }
        )
    return shipped


def watch(shop: Workshop, product: str, every_s: float, tell: Callable[[dict[str, Any]], None]) -> None:
    """Ship again and again until the process is ended; a store that cannot be reached is told and tried again."""
    while True:
        try:
            for one in ship(shop, product):
                if one["segments"]:
                    tell(one)
        except (StorageError, CaptureError, OSError) as error:
            tell({"product": product, "error": str(error)})
        time.sleep(every_s)


def shipper(every_s: float = 60.0) -> Program:
    """The watching shipper as a program of the local group."""
    roadworthy = str(Path(sys.executable).with_name("roadworthy"))
    return Program(name="capture", argv=(roadworthy, "capture", "ship", "--watch", "--every", f"{every_s:g}"))


def newest(shop: Workshop, product: str, num_records: int) -> list[dict[str, Any]]:
    """The newest captured predictions, shipped or not, newest first, with shapes in place of numbers."""
    return [_shown(record) for record in captures.last(shop.store, spools(shop), product, num_records)]


def _shown(record: Record) -> dict[str, Any]:
    return {
        "prediction_id": record.prediction_id,
        "time": captures.moment(record).isoformat(timespec="milliseconds"),
        "product": record.product,
        "version": record.version,
        "digest": record.parcel_digest,
        "protocol": record.protocol,
        "tenant": record.tenant,
        "key_id": record.key_id,
        "inputs": {name: _described(tensor) for name, tensor in record.inputs.items()},
        "outputs": {name: _described(tensor) for name, tensor in record.outputs.items()},
        "masked": list(record.masked),
    }


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}" + (" masked" if tensor.data is None else "")


def _wait_until_closed(spool: Path) -> None:
    """Until the segments that are open now are closed. A busy service then has others open."""
    waited_for = segments(spool, OPEN)
    give_up_s = time.monotonic() + CLOSED_WITHIN_S
    while any(is_being_written(path) for path in waited_for) and time.monotonic() < give_up_s:
        time.sleep(POLL_S)
