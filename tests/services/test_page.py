"""The page: what it says, what it may load, and, driven in Chromium over a real process, what its buttons do."""

import base64
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from infra.settings import environment, settings
from models.artifact.manifest import Manifest, read_and_verify
from services.page import headers, policy, render
from services.schemas import Release
from tests.services.tensor_parcels import make_tensor_folder

Folder = Callable[[str], Path]
ROOT = Path(__file__).parents[2]


def parts(folder: Path) -> tuple[Manifest, Release, Any]:
    example = json.loads((folder / "parcel" / "golden.json").read_bytes())["request"]
    release = Release.model_validate_json((folder / "release.json").read_bytes())
    return read_and_verify(folder / "parcel"), release, example


def inside(text: str, element: str) -> str:
    found = re.search(rf"<{element}>(.*?)</{element.split()[0]}>", text, re.S)
    assert found
    return found[1]


def data_of(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(inside(text, 'script type="application/json" id="served"'))
    return data


def test_it_names_model_version_digest_commit_and_data(served_folder: Folder) -> None:
    manifest, release, example = parts(served_folder("forecast"))
    release = release.model_copy(update={"code_commit": "abc123", "evidence_digest": "e" * 64})
    text = render(manifest, release, example, {"tiny": ["3"], "other": ["1", "2"]}).decode()
    for said in ("tiny/3", "abc123", "d1", "e" * 64, manifest.digest(), "linear (linear)"):
        assert said in text
    data = data_of(text)
    assert data["models"] == {"tiny": ["3"], "other": ["1", "2"]} and data["horizon_min"] == [15.0, 30.0]
    assert data["example"] == example and data["types"][1] == "text/csv"


def test_style_and_script_are_the_ones_that_the_policy_allows(served_folder: Folder) -> None:
    text = render(*parts(served_folder("classify"))).decode()
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        digest = base64.b64encode(hashlib.sha256(inside(text, element).encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy()
    assert dict(headers())[b"content-security-policy"].startswith(policy().encode())
    assert "//" not in re.sub(r"https?://www.w3.org/2000/svg", "", re.sub(r"//.*", "", inside(text, "script")))
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)


def test_what_somebody_smuggled_in_is_text(served_folder: Folder) -> None:
    manifest, release, example = parts(served_folder("forecast"))
    evil = "</script><script>alert(1)</script>{{script}}"
    nodes = (evil, "b", "c")
    text = render(manifest.model_copy(update={"nodes": nodes}), release.model_copy(update={"run_id": evil}), example)
    assert text.count(b"<script") == 2 and b"alert(1)</script>{{" not in text
    assert data_of(text.decode())["nodes"][0] == evil
    assert b"&lt;script&gt;" in text


def test_without_a_model_it_says_why() -> None:
    text = render(None, None, reason="parcel <broken>").decode()
    assert "parcel &lt;broken&gt;" in text and data_of(text)["about"] == "Not ready: parcel <broken>"


@contextmanager
def process(folder: Path, log: Path) -> Iterator[str]:
    """The address of a real serving process over this folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "services.main", "--folder", str(folder), "--port", str(port), "--open"]
    extra = {**environment(settings()), "ROADWORTHY_SERVE_SIGNATURES": "off", "PATH": "/usr/bin:/bin"}
    with log.open("wb") as file:
        running = subprocess.Popen(command, cwd=ROOT, env=extra, stdout=file, stderr=file)
    try:
        deadline, address = time.monotonic() + 30, f"http://127.0.0.1:{port}"
        while not _is_ready(address):
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield address
    finally:
        running.terminate()
        running.wait(20)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def browser(address: str, problems: list[str]) -> Iterator[Any]:
    """A page in Chromium; what its console complains of is in `problems`."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "the suite `browser` needs Debian's chromium: apt-get install chromium"
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = running.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        yield page
        running.close()


@pytest.mark.browser
def test_a_forecast_is_asked_for_drawn_and_explained(served_folder: Folder, tmp_path: Path) -> None:
    problems: list[str] = []
    with process(served_folder("forecast"), tmp_path / "log") as address, browser(address, problems) as page:
        page.click("#predict")
        page.wait_for_selector("#chart svg .ahead")
        assert "HTTP 200" in page.inner_text("#said") and page.locator("svg .dot").count() == 2
        page.select_option("#target", "b")
        assert page.inner_text("#chart td").startswith("b")
        page.click("#explain")
        assert page.wait_for_selector("#chart img").evaluate("image => image.naturalWidth") == 900
        assert problems == []
        page.fill("#body", '{"data": []}')
        page.click("#predict")
        page.wait_for_selector("#error:not([hidden])")
        assert "wrong batch size" in page.inner_text("#error")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.browser
def test_a_picture_is_classified_from_a_file(served_folder: Folder, tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 3), 255, np.uint8)).save(tmp_path / "bright.png")
    problems: list[str] = []
    with process(served_folder("classify"), tmp_path / "log") as address, browser(address, problems) as page:
        page.set_input_files("#file", tmp_path / "bright.png")
        page.click("#predict")
        page.wait_for_selector("#chart meter")
        assert page.inner_text("#chart td") == "one" and page.is_visible("#clear")
        page.click("#explain")
        assert page.wait_for_selector("#chart img").evaluate("image => image.naturalWidth") == 900
        assert problems == []


@pytest.mark.browser
def test_tensors_are_answered_in_a_table_and_explained_by_bars(tmp_path: Path) -> None:
    problems: list[str] = []
    folder = make_tensor_folder(tmp_path / "detect", "detect")
    with process(folder, tmp_path / "log") as address, browser(address, problems) as page:
        page.click("#predict")
        page.wait_for_selector("#chart table")
        assert [row.split() for row in page.inner_text("#chart").splitlines()[1:]] == [
            ["s1", "0.32401"], ["s2", "0.89298", "alarm"], ["s3", "0.68796", "alarm"]
        ]  # fmt: skip
        page.select_option("#target", "s1")
        page.click("#explain")
        assert page.wait_for_selector("#chart img").evaluate("image => image.naturalWidth") == 900
        assert problems == []
