"""Holds the commands about what is on the road.

They are promote, rollback, history, live, delete, package, serve and predict.
"""

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.options import AsJson, ProductName
from flows.workshop import open_workshop

app = typer.Typer()
REFUSED = 3

Version = Annotated[int | None, typer.Option("--version", help="A registered version; default: the newest.")]


@app.command()
def promote(product: ProductName, version: Version = None, as_json: AsJson = False) -> None:
    """Judge a registered version again, against what is live now, and promote it if it passes every gate.

    Example: roadworthy promote freeway --version 2
    """
    from flows.promote import promote_version

    record = promote_version(open_workshop(), product, version)
    if as_json:
        console.emit(record)
    else:
        console.say(f"{product} version {record['version']}: [bold]{record['verdict']}[/]")
        for reason in record["reasons"]:
            console.say(f"  {reason}")
    if record["verdict"] != "promoted":
        raise typer.Exit(REFUSED)


@app.command()
def rollback(product: ProductName, as_json: AsJson = False) -> None:
    """Put the version that was live before back on the road; a deployment switches back within seconds.

    Example: roadworthy rollback freeway
    """
    from flows.way_back import roll_back

    record = roll_back(open_workshop(), product)
    if as_json:
        console.emit(record)
    else:
        console.say(f"{product}: version {record['version']} is live again, in place of {record['replaced']}")
        if record.get("deployment"):
            console.say(f"  the deployment answers with it after {record['deployment']['switched_s']:.2f} s")


@app.command()
def history(
    product: Annotated[str, typer.Argument(help="A product; default: all.")] = "", as_json: AsJson = False
) -> None:
    """Every promotion, rollback and deletion, from the ledger.

    Example: roadworthy history freeway
    """
    entries = [entry.model_dump(mode="json") for entry in open_workshop().ledger.entries(product or None)]
    if as_json:
        console.emit(entries)
        return
    rows = [
        [
            item["seq"],
            item["time"][:19],
            item["action"],
            item["product"],
            item["details"].get("version"),
            item["digest"][:12],
        ]
        for item in entries
    ]
    console.table("Ledger", ["seq", "time (UTC)", "action", "product", "version", "digest"], rows)


@app.command()
def live(
    product: Annotated[str, typer.Argument(help="A product; default: all.")] = "",
    at: Annotated[str | None, typer.Option("--at", help="ISO time (UTC where no zone is given); default: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is on the road, or was at a time.

    Example: roadworthy live freeway --at 2026-11-22T02:30:00
    """
    from flows.promote import what_is_live

    rows = what_is_live(open_workshop(), product, at)
    if as_json:
        console.emit(rows)
    else:
        console.table("Live", ["product", "version", "digest", "since"], [list(row.values()) for row in rows])


@app.command()
def delete(
    product: ProductName,
    version: Annotated[int, typer.Argument(help="The version to delete.")],
    as_json: AsJson = False,
) -> None:
    """Delete a registered version; refused for one that is live or in the rollback window.

    Example: roadworthy delete freeway 3
    """
    shop = open_workshop()
    shop.registry.delete(product, version)
    if as_json:
        console.emit({"product": product, "version": version, "deleted": True})
    else:
        console.say(f"{product}: version {version} is deleted")


@app.command()
def package(
    product: ProductName,
    image: Annotated[bool, typer.Option("--image", help="An OCI image of it, with podman or docker.")] = False,
    base: Annotated[str, typer.Option(help="Base image; default: one made of Debian packages, or a registry's.")] = "",
    as_json: AsJson = False,
) -> None:
    """Pack what is live into a signed Bento, or into the image of that Bento.

    Example: roadworthy package freeway --image
    """
    if image:
        _package_image(product, base, as_json=as_json)
        return
    from flows.package import package_live

    bento = package_live(open_workshop(), product)
    if as_json:
        console.emit(bento)
    else:
        console.say(f"{product} version {bento.version}: {bento.tag}\n  {bento.path}")


@app.command()
def serve(
    product: ProductName,
    port: Annotated[int | None, typer.Option(help="Default: ROADWORTHY_SERVE_PORT, 3000.")] = None,
    host: Annotated[str | None, typer.Option(help="Default: loopback.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Default: 1000 above --port.")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Ask nobody for a key; on loopback only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve what is live over HTTP and gRPC in the foreground, until Ctrl-C; callers need a key (`roadworthy key`).

    Example: roadworthy serve freeway --port 3000 --open
    """
    from flows.package import serve_live

    status = serve_live(open_workshop(), product, host, port, grpc_port, is_open=is_open, as_json=as_json)
    raise typer.Exit(status)


@app.command()
def predict(
    product: ProductName,
    file: Annotated[Path | None, typer.Option("--input", help='A request, {"data": …}; "-" is stdin.')] = None,
    url: Annotated[str, typer.Option(help="Ask this running service instead of opening the parcel here.")] = "",
    send_key: Annotated[bool, typer.Option("--send-key", help="This home's key also to another machine.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer one request with what is live; without --input, the last held-back window of its data set.

    Example: roadworthy predict freeway --url http://127.0.0.1:3000
    """
    from flows.package import answer

    record = answer(open_workshop(), product, file, url, send_key=send_key)
    if as_json:
        console.emit(record)
    else:
        from flows.show import show_prediction

        show_prediction(record)


def _package_image(product: str, base: str, *, as_json: bool) -> None:
    from flows.image import package_image

    made = package_image(open_workshop(), product, *([base] if base else []))
    if as_json:
        console.emit(made)
    else:
        console.say(f"{product} version {made.version}: {made.tag}\n  {made.digest}, {made.size_bytes / 1e6:.0f} MB")
