"""The gateway of a services home: its program, its file, and how people log in.

The file is written by whoever changes what is served; the running gateway reads it again by itself.
"""

import sys
from pathlib import Path

from flows.deployed import deployments, url_of
from flows.local_key import operator_key
from flows.workshop import Workshop
from infra.atomic import write_atomic
from infra.profile import SECRETS_FILE
from infra.servers import address
from infra.settings import USER, ServiceSettings
from infra.supervise import Program
from services.gateway_config import GatewayConfig
from services.gateway_matrix import MLFLOW, PREFECT, SERVING


def config_path(home: Path) -> Path:
    """Where the gateway's file is."""
    return home / "run" / "gateway.json"


def gateway_config(shop: Workshop) -> GatewayConfig:
    """What the gateway of this home is told now: the servers, and the router of every deployed product."""
    from flows.access import keys_file

    config, records = shop.config, deployments(shop)
    return GatewayConfig(
        mlflow=f"http://{config.mlflow_server_host}:{config.mlflow_server_port}",
        prefect=f"http://{config.prefect_server_host}:{config.prefect_server_port}",
        products={name: url_of(shop, records.read(name)) for name in records.products()},
        ports={MLFLOW: config.mlflow_port, PREFECT: config.prefect_port, SERVING: config.gateway_port},
        user=USER,
        secrets=shop.home / SECRETS_FILE,
        keys=keys_file(shop.home),
        audit=shop.home / "audit" / "gateway.jsonl",
    )


def refresh(shop: Workshop) -> None:
    """Tell the gateway what is deployed now; nothing in a home without one."""
    if shop.config.is_services:
        content = gateway_config(shop).model_dump_json(indent=1).encode()
        path = config_path(shop.home)
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(path, content, mode=0o600)


def gateway(shop: Workshop) -> Program:
    """For supervisord; it is up before the servers behind it, and says so of each that does not answer."""
    refresh(shop)
    config = shop.config
    ports = ("--mlflow-port", str(config.mlflow_port), "--prefect-port", str(config.prefect_port))
    place = ("--host", config.host, *ports, "--port", str(config.gateway_port))
    url = gateway_url(shop)
    return Program(
        name="gateway",
        argv=(sys.executable, "-P", "-m", "services.gateway", "--config", str(config_path(shop.home)), *place),
        url=url, port=config.gateway_port, ready_url=f"{url}/livez", priority=300, settle_s=1,
    )  # fmt: skip


def gateway_url(shop: Workshop) -> str:
    """Where people and programs come in."""
    url = address(shop.config, shop.config.gateway_port)
    return url.replace("http://", "https://", 1) if ServiceSettings().tls_cert else url


def how_to_log_in(shop: Workshop) -> list[str]:
    """Lines for whoever brought the platform up; the key itself is not among them."""
    operator_key(shop)
    return [
        f"log in at {gateway_url(shop)}/ : any user name, a key as password",
        f"this home's own key, an operator's: {shop.home / 'keys' / 'local.key'}",
        "for others: roadworthy key create NAME --role viewer|trainer|promoter|operator",
    ]
