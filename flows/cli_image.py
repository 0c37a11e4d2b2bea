"""Holds the command that writes what other machines need to run an image: manifests."""

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.options import AsJson, ProductName
from flows.workshop import open_workshop

app = typer.Typer()


@app.command()
def manifests(
    product: ProductName,
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    image: Annotated[
        str, typer.Option(help="REPOSITORY@sha256:DIGEST as the cluster pulls it; default: the image built here.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Kubernetes manifests (kustomize) and a compose file for the image of what is live.

    Example: roadworthy manifests freeway --out deploy/freeway
    """
    from flows.image import write_live_manifests

    files = write_live_manifests(open_workshop(), product, out, image)
    if as_json:
        console.emit({"product": product, "folder": str(out), "files": [str(path.relative_to(out)) for path in files]})
        return
    console.say(f"{product}: {len(files)} files in {out}\n  kubectl apply -k {out}")


@app.command()
def plan(
    product: ProductName,
    file: Annotated[Path | None, typer.Option(help="JSON with also, ensembles, tenants, limits.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Serve the live model alone again.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a product serves beside its live model, from its next packing on; without --file shows it.

    Example: roadworthy plan freeway --file plan.json
    """
    from flows.plan import clear_plan, plan_of, set_plan

    shop = open_workshop()
    if clear:
        clear_plan(shop, product)
    found = set_plan(shop, product, file) if file else plan_of(shop, product)
    if as_json:
        console.emit(found)
    else:
        console.say(f"{product}: {found.model_dump_json(indent=2)}")
