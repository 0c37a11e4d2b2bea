"""The page at `/`: which model answers here and how to ask it."""

import html
from typing import TYPE_CHECKING

from services.schemas import PREDICT_PATHS

if TYPE_CHECKING:
    from services.runtime import Runtime

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}
td{{padding:.1rem 1rem .1rem 0;overflow-wrap:anywhere}}code{{background:#8882;padding:.1rem .3rem}}</style></head>
<body><h1>{title}</h1><table>{rows}</table>
<p>Ask with <code>POST {path}</code> and <code>{{"data": …}}</code>; <a href="docs.json">docs.json</a> has the exact
shapes and an example. <a href="readyz">readyz</a> · <a href="livez">livez</a> · <a href="metrics">metrics</a></p>
</body></html>
"""


def render(runtime: "Runtime") -> bytes:
    """HTML; says so when nothing is served."""
    if runtime.served is None:
        facts, title = {"not ready": runtime.reason}, "Roadworthy"
    else:
        manifest, title = runtime.served.manifest, runtime.served.model_version
        facts = {"task": manifest.task, "model": f"{manifest.family} ({manifest.variant})"}
        facts |= {name.replace("_", " "): text for name, text in runtime.served.release.labels().items() if text}
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in facts.items())
    return _PAGE.format(title=html.escape(title), rows=rows, path=PREDICT_PATHS[0]).encode()
