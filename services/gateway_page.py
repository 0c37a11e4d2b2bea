"""The page at the gateway's `/`: what runs here, where it is, and who you are."""

from html import escape

import orjson

from infra.api_keys import Grant
from services.answers import Scope, header
from services.gateway_config import GatewayConfig

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;width:100%}td{padding:.4rem .8rem .4rem 0;border-top:1px solid #ddd}"
    "code{font-size:.9em}h1{font-size:1.4rem}.who{color:#555}"
)
_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
HEADERS = [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", _POLICY)]


def page(scope: Scope, config: GatewayConfig, grant: Grant) -> bytes:
    """HTML without script; links lead to the same host, by the name that the browser used."""
    host = header(scope, b"host").decode("latin-1").rsplit(":", 1)[0] or "127.0.0.1"
    scheme = scope.get("scheme", "http")
    rows = [
        (title, f"{scheme}://{host}:{config.ports[name]}/", text)
        for name, title, text in (
            ("mlflow", "MLflow", "experiments, runs, registered models"),
            ("prefect", "Prefect", "flows, schedules, logs"),
        )
        if name in config.ports
    ]
    rows += [(name, f"/{name}/", "predictions; a page to try it at") for name in sorted(config.products)]
    cells = "".join(
        f'<tr><td><a href="{escape(link, quote=True)}">{escape(title)}</a></td><td>{escape(text)}</td></tr>'
        for title, link, text in rows
    )
    role = f"as {grant.role}" if grant.role else "with a key that only asks models"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Roadworthy</title><style>{_STYLE}</style>"
        f"<h1>Roadworthy</h1><p class=who>You are <b>{escape(grant.name)}</b>, {role}. "
        f"Programs send the key as <code>Authorization: Bearer KEY</code>.</p><table>{cells}</table></html>"
    ).encode()


def who(grant: Grant) -> bytes:
    """The same about the caller, as JSON."""
    verbs = sorted({verb for verb, _ in grant.allowed})
    return orjson.dumps({"name": grant.name, "key": grant.id, "role": grant.role, "verbs": verbs})
