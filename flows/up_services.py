"""Makes a home a services home, and brings its servers up.

What a home has done before goes along: runs, versions and artifacts keep their ids (`flows.move_in`).
"""

from flows import console
from flows.gateway import how_to_log_in
from flows.live import live_products
from flows.move_in import has_to_move, move_in
from flows.up import own_programs
from flows.workshop import Workshop, open_workshop
from infra import seaweedfs
from infra import settings as environment
from infra.deployments import Deployments
from infra.ports import free_ports
from infra.postgres import postgres_server
from infra.profile import Profile, read_secrets, write_profile
from infra.seaweedfs import s3_server
from infra.settings import Settings
from infra.stack import Stack

PUBLIC = ("gateway", "postgres", "s3", "prometheus")  # at the ports of the settings
INTERNAL = ("mlflow_server", "prefect_server", "hooks", "metrics")
UP_S = 180.0
NUM_REPLICAS = 2  # of a product: one may die without anybody waiting


def become_services(shop: Workshop) -> Workshop:
    """The workshop of the same home with real servers; its profile and secrets are made on the first call."""
    if not shop.config.is_services:
        write_profile(shop.home, choose_ports(shop.config))
    read_secrets(shop.home)
    environment.settings.cache_clear()
    return open_workshop()


def choose_ports(config: Settings) -> Profile:
    """The public ports as they are set, and free ones for what only this machine's programs reach."""
    ports = {name: int(getattr(config, f"{name}_port")) for name in PUBLIC}
    inside = (*INTERNAL, *(f"weed_{name}" for name in seaweedfs.PORTS))
    return Profile(ports=ports | dict(zip(inside, free_ports(len(inside)), strict=True)))


def bring_up_services(shop: Workshop, *, is_open: bool = False) -> list[dict[str, str]]:
    """Everything of a services home, in the order of health; returns the addresses. Raises StackError."""
    if has_to_move(shop):
        Stack(shop.config).up([postgres_server(shop.config), s3_server(shop.config)], console.say, UP_S)
        seaweedfs.wait_for_bucket(shop.config)
        move_in(shop)
    programs = own_programs(shop)
    found = Stack(shop.config).up(programs, console.say, UP_S)
    seaweedfs.wait_for_bucket(shop.config)
    seaweedfs.sync_writes(shop.config)
    addresses = [{"name": item.name, "url": item.url} for item in found]
    addresses += [put_on_the_road(shop, product, is_open=is_open) for product in live_products(shop)]
    for line in how_to_log_in(shop):
        console.say(line)
    return addresses


def put_on_the_road(shop: Workshop, product: str, *, is_open: bool = False) -> dict[str, str]:
    """A router and replicas of what is live, or those that were deployed before; the router's address."""
    from flows.deploy import deploy

    found = Deployments(shop.config, shop.ledger).find(product)
    if found is None:
        record = deploy(shop, product, num_replicas=NUM_REPLICAS, is_open=is_open)
    else:
        record = deploy(shop, product, found.engine, found.num_replicas)
    console.say(f"{product} version {record['version']} answers {record['url']}")
    return {"name": f"{product}/router", "url": record["url"]}
