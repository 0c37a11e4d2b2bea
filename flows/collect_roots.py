"""What must stay: all that is reached from the ledger, its evaluations, and deployments.

Roots are the registered versions that nobody deleted, what is deployed, and the evaluations of both. From a version one
reaches its parcel, the evaluation on its page, all parcels that were judged in it, the snapshot and its folder.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flows.deployed import deployments
from flows.workshop import Workshop
from infra.objects import NotThereError
from infra.promotion import REGISTER, PromotionRefused, entry_ref, standing
from infra.refs import ModelRef

EVALUATION = "roadworthy.evaluation"


@dataclass
class Roots:
    """Addresses in the store, and folders of Bentos, that are needed.

    versions: registered and not deleted; live: those live, kept for a rollback or deployed; missing: what should be
    there and is not
    """

    versions: set[ModelRef] = field(default_factory=set)
    live: set[ModelRef] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    bentos: set[Path] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)

    @property
    def lost(self) -> list[str]:
        """Parcels on the road that are not there: the store is not the one that it was, and no mark can be trusted."""
        return sorted({f"parcels/{ref.digest}" for ref in self.live} & set(self.missing))


def find_roots(shop: Workshop) -> Roots:
    """Everything that must stay. Raises LedgerError, StorageError, RegistryError: then nothing may be collected."""
    roots = Roots()
    for product in sorted({entry.product for entry in shop.ledger.entries() if entry.product}):
        _add_product(shop, product, roots)
    for product in deployments(shop).products():
        record = deployments(shop).read(product)
        for one in (*record.replicas, *record.previous):
            roots.live.add(ModelRef(product=product, version=one.version, digest=one.digest))
            roots.bentos |= {Path(one.bento)} if one.bento else set()
    for ref in sorted(roots.versions | roots.live, key=lambda ref: (ref.product, ref.version)):
        _add_parcel(shop, ref.digest, roots)
    return roots


def _add_product(shop: Workshop, product: str, roots: Roots) -> None:
    entries = shop.ledger.entries(product)
    state = standing(entries)
    registered = {entry_ref(entry) for entry in entries if entry.action == REGISTER}
    kept = {ref for ref in registered if ref.version not in state.deleted}
    roots.versions |= kept
    roots.live |= set(state.protected)
    for ref in kept:
        try:
            address = shop.registry.version_tags(ref).get(EVALUATION, "")
        except PromotionRefused:
            roots.missing.append(f"{ref.product} version {ref.version} in the registry")
            continue
        if address:
            _add_evaluation(shop, address, roots)


def _add_evaluation(shop: Workshop, address: str, roots: Roots) -> None:
    """An evaluation names every parcel that was judged in it, and the data: a version is judged again with them."""
    roots.addresses.add(address)
    try:
        record = json.loads(shop.store.get_bytes(f"{address}/evaluation.json"))
    except NotThereError:
        roots.missing.append(address)
        return
    roots.addresses.add(record["data"]["key"])
    roots.addresses.add(f"snapshots/{record['data']['digest']}")
    for digest in (*record["parcels"].values(), *filter(None, [record.get("champion")])):
        _add_parcel(shop, digest, roots)


def _add_parcel(shop: Workshop, digest: str, roots: Roots) -> None:
    address = f"parcels/{digest}"
    if address in roots.addresses:
        return
    roots.addresses.add(address)
    try:
        snapshot = f"snapshots/{json.loads(shop.store.get_bytes(f'{address}/manifest.json'))['data_digest']}"
    except NotThereError:
        roots.missing.append(address)
        return
    roots.addresses.add(snapshot)
    try:
        roots.addresses.add(shop.store.get_bytes(snapshot).decode())
    except NotThereError:
        roots.missing.append(snapshot)


def owner(key: str, depth: int = 2) -> str:
    """The address that an object belongs to: `parcels/<digest>`, `steps/<step>/<key>`, `snapshots/<digest>`."""
    parts = key.split("/")
    return "/".join(parts[: 3 if parts[0] == "steps" else depth])
