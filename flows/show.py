"""How an outcome, a prediction and the catalog look in a terminal."""

from typing import Any

from flows import console
from flows.outcome import Outcome
from flows.prepare import all_datasets
from flows.workshop import Workshop
from models import catalog

MAX_COLUMNS = 5
COLUMNS = {
    "detect": ("log_loss", "num_found", "mean_time_to_detect", "false_alarms_per_100_station_hours"),
    "route": ("mae", "rmse", "way_error"),
}


def show_outcome(outcome: Outcome) -> None:
    """Verdict, the sentence, every candidate, every gate."""
    title = f"{outcome.product}: candidates on the held-back test split ({outcome.convention})"
    names = _shown(outcome)
    columns = ["candidate", *(name.replace("_", " ") for name in names), "kB", "p50 ms", "p99 ms", "rows/s"]
    rows = [
        [
            f"→ {name}" if name == outcome.candidate else name,
            *(metrics.get(metric) for metric in names),
            outcome.bytes[name] / 1000,
            outcome.latency_ms[name]["p50"],
            outcome.latency_ms[name]["p99"],
            round(outcome.rows_per_second[name]),
        ]
        for name, metrics in outcome.metrics.items()
    ]
    console.table(title, columns, rows)
    if outcome.closed_loop:
        loop = outcome.closed_loop
        means = sorted(loop["means"].items(), key=lambda item: item[1])
        title = f"In closed loop: {loop['judged']}, {loop['unit']}, {loop['num_seeds']} unseen seeds"
        console.table(title, ["who", "mean"], [[name, value] for name, value in means])
    gates = [[gate["gate"], gate["passed"], gate["reason"]] for gate in outcome.gates]
    console.table("Gates", ["gate", "passed", "reason"], gates)
    console.out.print(outcome.sentence, highlight=False)
    version = f", version {outcome.model_version}" if outcome.model_version else ""
    console.out.print(f"[bold]{outcome.verdict}[/]: {outcome.product}{version}", highlight=False)


def _shown(outcome: Outcome) -> list[str]:
    """The figures that fit beside each other; all of them are in `--json` and in MLflow."""
    known = [name for name in next(iter(outcome.metrics.values())) if not name.endswith("_pooled")]
    chosen = [name for name in COLUMNS.get(outcome.recipe.partition("/")[0], ()) if name in known]
    return chosen or known[:MAX_COLUMNS]


def show_prediction(record: dict[str, Any]) -> None:
    """The answer beside what really happened, where that is known."""
    console.out.print(f"{record['product']} version {record['model_version']}, prediction {record['prediction_id']}")
    if "rows" in record:
        console.table(f"{record['title']} ({record['units']})", record["columns"], record["rows"])
    else:
        console.emit(record["predictions"])


def catalog_record(shop: Workshop) -> dict[str, Any]:
    """Everything that exists, as JSON."""
    families = [
        {
            "name": card.name,
            "task": card.task,
            "title": card.title,
            "source": card.source,
            "is_baseline": card.is_baseline,
            "gate": card.gate,
            "measured": card.measured,
            "has_student": card.student is not None,
            "settings": card.config().model_dump(mode="json"),
        }
        for card in catalog.all_families().values()
    ]
    datasets = [card.model_dump(mode="json") for card in all_datasets(shop).values()]
    tasks = {
        task: {
            "promise": promise,
            "shapes": shapes,
            "families": [item["name"] for item in families if item["task"] == task and not item["is_baseline"]],
            "baselines": [item["name"] for item in families if item["task"] == task and item["is_baseline"]],
            "datasets": [item["name"] for item in datasets if item["task"] == task],
        }
        for task, (promise, shapes) in catalog.TASKS.items()
    }
    return {
        "tasks": tasks,
        "recipes": catalog.recipe_names(),
        "families": families,
        "datasets": datasets,
    }


def show_catalog(record: dict[str, Any]) -> None:
    """Two tables."""
    families = [
        [
            f"{item['task']}/{item['name']}",
            item["title"],
            "baseline" if item["is_baseline"] else "network",
            item["source"],
        ]
        for item in record["families"]
    ]
    console.table("Recipes", ["recipe", "family", "kind", "source"], families)
    datasets = [[item["name"], item["task"], item["title"], item["licence"]] for item in record["datasets"]]
    console.table("Data sets", ["name", "task", "what", "licence"], datasets)
