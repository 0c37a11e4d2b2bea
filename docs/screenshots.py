"""Takes the README's pictures: MLflow's version and run pages, Prefect's run page, with headless Chromium.

`roadworthy up` must be running. What to show is asked of both servers: the champion of a product, its run, and the last
finished flow run. Pages are waited for by what people read on them, not by time.
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, ViewportSize, sync_playwright
from playwright.sync_api import TimeoutError as NotInTimeError

from infra.servers import mlflow_url, prefect_url
from infra.settings import Settings, settings

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
CURVE = ".js-plotly-plot .main-svg"
# What a visitor of MLflow chose before: the pages about models, without the assistant's panel.
CHOICES = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}

logger = logging.getLogger("screenshots")


@dataclass(frozen=True)
class Picture:
    """One page: the file it becomes, where it is, and texts or selectors that must be visible first.

    `click` names a tab to open; `height` is that of the window in pixels.
    """

    file: str
    url: str
    texts: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()
    click: str = ""
    height: int = 1100


class NothingToShowError(LookupError):
    """A server holds no finished work yet, or does not answer."""


def mlflow_pictures(url: str, product: str, step: str) -> list[Picture]:
    """The page of the product's champion, the run it came from, and the curves of the newest run of `step`."""
    api = f"{url}/api/2.0/mlflow"
    model = _ask("GET", f"{api}/registered-models/get", name=product)["registered_model"]
    champion = next((one["version"] for one in model.get("aliases", []) if one["alias"] == "champion"), None)
    if champion is None:
        raise NothingToShowError(f"{product} has no champion: {url}/#/models/{product}")
    version = _ask("GET", f"{api}/model-versions/get", name=product, version=champion)["model_version"]
    run = _ask("GET", f"{api}/runs/get", run_id=version["run_id"])["run"]["info"]
    wanted = {
        "experiment_ids": [run["experiment_id"]],
        "filter": f"tags.`roadworthy.step` = '{step}'",
        "max_results": 1,
    }
    newest = {"order_by": ["attributes.start_time DESC"]}
    fits = [one["info"]["run_id"] for one in _ask("POST", f"{api}/runs/search", wanted | newest).get("runs", [])]
    runs = f"{url}/#/experiments/{run['experiment_id']}/runs"
    return [
        Picture(
            "mlflow-version.png", f"{url}/#/models/{product}/versions/{champion}", (f"Version {champion}",), height=1500
        ),
        Picture("mlflow-run.png", f"{runs}/{run['run_id']}", (run["run_name"],), height=1300),
        *(Picture("mlflow-charts.png", f"{runs}/{one}/model-metrics", (step,), (CURVE,)) for one in fits),
    ]


def prefect_pictures(url: str, flow: str) -> list[Picture]:
    """The last completed run of the flow: its page and its artifacts."""
    body = {
        "sort": "END_TIME_DESC",
        "limit": 1,
        "flows": {"name": {"any_": [flow]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    runs = _ask("POST", f"{url}/api/flow_runs/filter", body)
    if not runs:
        raise NothingToShowError(f"no run of the flow '{flow}' has completed: {url}/runs")
    page, name = f"{url}/runs/flow-run/{runs[0]['id']}", runs[0]["name"]
    return [
        Picture("prefect-run.png", page, (name,)),
        Picture("prefect-artifacts.png", page, (name,), click="Artifacts"),
    ]


@contextmanager
def browser(width: int, scale: float) -> Iterator[Page]:
    """A page of Debian's Chromium; raises FileNotFoundError when it is not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise FileNotFoundError("no chromium: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        application = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            size: ViewportSize = {"width": width, "height": 1100}
            page = application.new_page(viewport=size, device_scale_factor=scale, color_scheme="light")
            page.add_init_script(
                f"for (const [key, value] of {json.dumps(list(CHOICES.items()))}) localStorage.setItem(key, value)"
            )
            yield page
        finally:
            application.close()


def take(page: Page, picture: Picture, folder: Path, timeout_s: float) -> Path:
    """Open the page, wait until it shows what it must, and write the PNG; raises playwright's TimeoutError."""
    page.set_default_timeout(timeout_s * 1000)
    page.set_viewport_size({"width": (page.viewport_size or {"width": 1400})["width"], "height": picture.height})
    page.goto("about:blank")  # MLflow's pages differ only behind the '#': without this the old one would stay
    page.goto(picture.url)
    for text in picture.texts:
        page.get_by_text(text).first.wait_for()
    if picture.click:
        page.get_by_role("tab", name=picture.click).or_(page.get_by_text(picture.click, exact=True)).first.click()
    for selector in picture.selectors:
        page.locator(selector).first.wait_for()
    _settle(page)
    path = folder / picture.file
    page.screenshot(path=path, animations="disabled")
    return path


def _settle(page: Page) -> None:
    try:
        page.wait_for_load_state("networkidle", timeout=10_000)
    except NotInTimeError:  # a page that keeps asking for news
        logger.debug("%s never falls silent; taken as it is", page.url)
    page.locator("[class*=skeleton i], [class*=spinner i], [aria-busy=true]").first.wait_for(state="hidden")


def _ask(method: str, url: str, body: dict[str, Any] | None = None, **query: str) -> Any:
    try:
        answer = httpx.request(method, url, json=body, params=query, timeout=30.0, trust_env=False)
    except httpx.TransportError as error:
        raise NothingToShowError(f"nobody answers at {url}; is `roadworthy up` running?") from error
    if answer.is_error:
        raise NothingToShowError(f"{url} answers {answer.status_code}: {answer.text[:200]}")
    return answer.json()


def _options(config: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mlflow", default=mlflow_url(config), help="default: %(default)s")
    parser.add_argument("--prefect", default=prefect_url(config), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images", help="folder of the PNG files")
    parser.add_argument("--product", default="freeway", help="whose champion is shown; default: %(default)s")
    parser.add_argument("--step", default="fit teacher", help="whose curves are shown; default: %(default)s")
    parser.add_argument("--flow", default="lifecycle", help="whose last run is shown; default: %(default)s")
    parser.add_argument("--width", type=int, default=1400, help="of the window, in pixels; default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels per pixel; default: %(default)s")
    parser.add_argument("--timeout", type=float, default=90.0, help="seconds for each page; default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Take every picture; exits with a sentence when there is nothing to show."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    options = _options(settings())
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        pictures = mlflow_pictures(options.mlflow, options.product, options.step)
        pictures += prefect_pictures(options.prefect, options.flow)
    except NothingToShowError as error:
        sys.exit(str(error))
    with browser(options.width, options.scale) as page:
        for picture in pictures:
            logger.info("%s", take(page, picture, options.out, options.timeout))


if __name__ == "__main__":
    main()
