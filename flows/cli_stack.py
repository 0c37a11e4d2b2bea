"""Commands about the local servers: up, down, status, doctor."""

from typing import Annotated, Any

import typer

from flows import console
from flows.options import AsJson, UsageError
from flows.workshop import open_workshop

app = typer.Typer()


@app.command()
def up(
    is_open: Annotated[bool, typer.Option("--open", help="Services ask nobody for a key; loopback only.")] = False,
    profile: Annotated[str, typer.Option(help="`services`: real servers, from then on; default: as the home is.")] = "",
    as_json: AsJson = False,
) -> None:
    """Start Prefect, a worker, MLflow and serving of every live product (HTTP and gRPC), as one supervised group.

    It listens on loopback. What the services capture is shipped to the object store every minute. With
    `--profile services` PostgreSQL, an S3 server, the gateway and Prometheus come with them, and the home stays so.

    Example: roadworthy up --profile services
    """
    from flows.up import bring_up
    from flows.up_services import become_services

    shop = open_workshop()
    if profile not in ("", "embedded", "services") or (profile == "embedded" and shop.config.is_services):
        raise UsageError(f"--profile {profile}: expected services; this home is {shop.config.profile} and stays so")
    addresses = bring_up(become_services(shop) if profile == "services" else shop, is_open=is_open)
    if as_json:
        console.emit(addresses)
    else:
        console.table("Running", ["name", "address"], [[item["name"], item["url"]] for item in addresses])


@app.command()
def down(as_json: AsJson = False) -> None:
    """Stop everything that `up` started; leaves nothing behind.

    Example: roadworthy down
    """
    from flows.up import bring_down

    stopped = bring_down(open_workshop())
    if as_json:
        console.emit({"stopped": stopped})
    else:
        console.say(f"stopped: {', '.join(stopped) or 'nothing was running'}")


@app.command()
def status(
    is_watched: Annotated[bool, typer.Option("--watch", help="Draw it again every two seconds until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """What runs, and what is live; with --watch also runs, traffic, alarms and backups, as they change.

    Example: roadworthy status --json
    """
    if is_watched and not as_json:
        from flows.status import watch

        watch(open_workshop())
        return
    from flows.promote import what_is_live
    from flows.up import programs

    shop = open_workshop()
    record: dict[str, Any] = {
        "home": str(shop.home),
        "tracking_uri": shop.config.mlflow_uri,
        "store": shop.config.store_uri,
        "profile": shop.config.profile,
        "programs": (running := programs(shop)),
        "services": [{"name": row["name"], "state": row["state"], "address": row["url"]} for row in running],
        "live": what_is_live(shop, "", None),
    }
    if as_json:
        console.emit(record)
        return
    rows = [[row["name"], row["state"], str(row["pid"] or ""), row["url"]] for row in record["programs"]]
    console.table("Programs", ["name", "state", "pid", "address"], rows)
    console.table("Live", ["product", "version", "digest", "since"], [list(row.values()) for row in record["live"]])


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Undo what can be undone, and record it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold aliases, ledger, parcels and runs against each other; exit status 0 when all is well.

    Example: roadworthy doctor --fix
    """
    from flows.doctor import examine

    record = examine(open_workshop(), fix=fix)
    if as_json:
        console.emit(record)
    else:
        rows = [[item["check"], item["ok"], item["detail"]] for item in record["checks"]]
        console.table("Doctor", ["check", "ok", "detail"], rows)
    if not record["ok"]:
        raise typer.Exit(1)
