"""Commands about who may call: key create, list, revoke; audit verify, seal, show."""

from typing import Annotated, Any

import typer

from flows import console
from flows.options import AsJson
from flows.workshop import Workshop, open_workshop

key_app = typer.Typer(help="API keys of what is served: create, list, revoke.", no_args_is_help=True)
audit_app = typer.Typer(help="The hash-chained ledgers: verify, seal, show.", no_args_is_help=True)

MaxBody = Annotated[int, typer.Option("--max-body", help="Largest request in bytes; 0: the service's own limit.")]
Role = Annotated[str, typer.Option(help="viewer, trainer, promoter or operator; none: it only asks models.")]
Verbs = Annotated[str | None, typer.Option(help="Of predict, explain, read, operate; default: by role.")]
PerMinute = Annotated[int, typer.Option("--per-minute", help="Requests a minute; 0: the service's own quota.")]


@key_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who will use it, e.g. signal-control.")],
    models: Annotated[str, typer.Option(help="Comma-separated; * is all.")] = "*",
    verbs: Verbs = None,
    role: Role = "",
    expires: Annotated[str, typer.Option(help="30d, 12h, 15m, or never.")] = "90d",
    tenant: Annotated[str, typer.Option(help="Whose overlay it gets.")] = "",
    per_minute: PerMinute = 0,
    max_body: MaxBody = 0,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it once; only its hash is kept. With a role it also opens MLflow and Prefect at the gateway.

    Example: roadworthy key create signals --models freeway --verbs predict,explain --expires 30d --per-minute 600
    """
    from flows import access

    shop = open_workshop()
    record = access.create_key(
        shop, name, models=models, verbs=verbs, expires=expires, tenant=tenant, per_minute=per_minute,
        max_body_bytes=max_body, role=role,
    )  # fmt: skip
    _tell_containers(shop)
    if as_json:
        console.emit(record)
        return
    console.out.print(record["key"], highlight=False, markup=False, soft_wrap=True)
    until = (record["expires"] or "never")[:16]
    console.say(f"key {record['id']} for {name}: keep it now, it cannot be shown again; it expires: {until}")


@key_app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key: whose, for what, until when. No secret is in it.

    Example: roadworthy key list
    """
    from flows import access

    keys = access.list_keys(open_workshop())
    if as_json:
        console.emit(keys)
        return
    columns = ["id", "name", "tenant", "models", "verbs", "expires", "per minute", "state"]
    rows = [
        [
            item["id"], _named(item), item["tenant"], ", ".join(item["models"]),
            ", ".join(item["verbs"]), (item["expires"] or "never")[:16], item["requests_per_minute"], item["state"],
        ]
        for item in keys
    ]  # fmt: skip
    console.table("API keys", columns, rows)


@key_app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id; `roadworthy key list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a key for good; running services refuse it from their next request on.

    Example: roadworthy key revoke 5f3a09bc
    """
    from flows import access

    shop = open_workshop()
    record = access.revoke_key(shop, key_id)
    _tell_containers(shop)
    if as_json:
        console.emit(record)
    else:
        console.say(f"key {key_id} of {record['name']} is revoked")


@audit_app.command("verify")
def verify_audit(as_json: AsJson = False) -> None:
    """Walk every ledger, main and audit, and hold it against its signed seals; exit status 1 names what breaks.

    Example: roadworthy audit verify
    """
    from flows import access

    record = access.verify_audit(open_workshop())
    if as_json:
        console.emit(record)
    else:
        rows = [
            [row["ledger"], row["entries"], row["num_seals"], row["sealed_until"], row["ok"]]
            for row in record["ledgers"]
        ]
        console.table("Ledgers", ["ledger", "entries", "seals", "sealed until", "ok"], rows)
        for reason in [*(row["error"] for row in record["ledgers"]), record["seals"]]:
            if reason not in ("", "hold"):
                console.err.print(reason, markup=False, highlight=False, soft_wrap=True)
    if not record["ok"]:
        raise typer.Exit(1)


@audit_app.command("seal")
def seal_audit(as_json: AsJson = False) -> None:
    """Sign where each ledger stands, so that nobody rewrites it whole; keep a copy of the last seal elsewhere.

    Example: roadworthy audit seal
    """
    from flows.trust import seal_ledgers

    made = seal_ledgers(open_workshop())
    if as_json:
        console.emit(made)
        return
    for seal in made:
        console.say(f"{seal['ledger']}: sealed until entry {seal['seq']}, {seal['digest'][:12]}")
    if not made:
        console.say("nothing new to seal")


@audit_app.command("show")
def show_audit(
    last: Annotated[int, typer.Option(help="How many of the latest.", min=1)] = 20, as_json: AsJson = False
) -> None:
    """The latest entries of all ledgers: refused and privileged calls, keys, promotions.

    Example: roadworthy audit show --last 20
    """
    from flows import access

    entries = access.last_entries(open_workshop(), last)
    if as_json:
        console.emit(entries)
        return
    rows = [
        [item["ledger"], item["seq"], item["time"][:19], item["action"], item["product"], _said(item["details"])]
        for item in entries
    ]
    console.table("Audit", ["ledger", "seq", "time (UTC)", "action", "product", "details"], rows)


def _named(item: dict[str, Any]) -> str:
    return f"{item['name']} ({item['role']})" if item.get("role") else str(item["name"])


def _said(details: dict[str, object]) -> str:
    shown = ("status", "why", "count", "where", "verb", "name", "key", "id", "version", "address")
    return " ".join(f"{name}={details[name]}" for name in shown if details.get(name))


def _tell_containers(shop: Workshop) -> None:
    """Containers read a copy of the keys' hashes: where there is one, it follows at once."""
    from flows.container import access_folder, publish_keys

    if access_folder(shop).exists():
        publish_keys(shop)
