"""MLflow's pages in a browser, as a person with a key sees them through the gateway."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from docs.screenshots import CHOICES, FLAGS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT_MS = 90_000


@contextmanager
def version_page(url: str, key: str, product: str, version: int) -> Iterator[Page]:
    """The page of a version; the browser shows the key as its password."""
    with sync_playwright() as playwright:
        application = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            person = application.new_context(
                http_credentials={"username": "me", "password": key}, viewport={"width": 1400, "height": 900}
            )
            page = person.new_page()
            page.set_default_timeout(TIMEOUT_MS)
            chosen = f"for (const [key, value] of {json.dumps(list(CHOICES.items()))}) localStorage.setItem(key, value)"
            page.add_init_script(chosen)
            page.goto(f"{url}/#/models/{product}/versions/{version}")
            page.get_by_text(f"Version {version}").first.wait_for()
            yield page
        finally:
            application.close()


def set_alias(page: Page, alias: str) -> None:
    """With the pencil beside `Aliases`, or `Add` where there is none."""
    page.locator("button[data-component-id*=aliaseditor]").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill(alias)
    page.keyboard.press("Enter")
    with page.expect_response(lambda answer: answer.url.endswith("registered-models/alias")) as told:
        dialog.get_by_role("button", name="Save aliases").click()
    assert told.value.ok, told.value.text()
