"""What compression bought: the teacher against what was promoted, through the predictor that serves.

Both parcels in turn, A B A B, in one process on one thread: medians and the ratio of rows per second.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from flows.package import live_model, parcel_folder, snapshot_of
from flows.steps import fetch_folder
from flows.workshop import open_workshop
from models.artifact.predictor import Predictor

BATCH_SIZE = 64


def rows_per_second(predictor: Predictor, inputs: dict[str, np.ndarray], num_calls: int) -> float:
    """Rows a second in batches of 64."""
    began = time.perf_counter()
    for _ in range(num_calls):
        predictor.predict(inputs)
    return num_calls * BATCH_SIZE / (time.perf_counter() - began)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--product", default="freeway")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shop = open_workshop()
    live = live_model(shop, options.product)
    tags = shop.registry.version_tags(live)
    record = json.loads((fetch_folder(shop, tags["roadworthy.evaluation"]) / "evaluation.json").read_text())
    folders: dict[str, Path] = {
        "teacher": parcel_folder(shop, record["parcels"]["teacher"]),
        record["choice"]["name"]: parcel_folder(shop, live.digest),
    }
    predictors = {name: Predictor.open(folder) for name, folder in folders.items()}
    samples = snapshot_of(shop, next(iter(predictors.values())).manifest.data_digest).samples("test")
    inputs = samples.take(np.arange(BATCH_SIZE)).inputs
    rates: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(options.rounds):
        for name, predictor in predictors.items():
            rates[name].append(rows_per_second(predictor, inputs, 20))
    small = record["choice"]["name"]
    error = {name: record["test"][name]["judged"]["value"] for name in predictors}
    result = {
        "product": options.product,
        "teacher_bytes": predictors["teacher"].num_bytes,
        "promoted": small,
        "promoted_bytes": predictors[small].num_bytes,
        "bytes_ratio": predictors[small].num_bytes / predictors["teacher"].num_bytes,
        "rows_per_second": {name: median(each) for name, each in rates.items()},
        "speed_ratio": median(b / a for a, b in zip(rates["teacher"], rates[small], strict=True)),
        "error": error,
        "error_ratio": error[small] / error["teacher"],
    }
    if options.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        for name, value in result.items():
            print(f"{name:>16}  {value}")


if __name__ == "__main__":
    main()
