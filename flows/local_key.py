"""The key of this home's own commands: made on first need, sent to this machine alone.

Other machines get it only where somebody asks for that: whoever holds it could use it on us.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from flows.access import create_key, make_operator
from flows.workshop import Workshop
from infra.atomic import exclusive, write_atomic

NAME = "local"


def local_key(shop: Workshop) -> str:
    """The key in HOME/keys/local.key (0600), which may do everything; made and granted on the first call."""
    path = shop.home / "keys" / "local.key"
    with exclusive(path.with_suffix(".lock")):
        if not path.exists():
            key = create_key(shop, NAME, role="operator", expires="never")["key"]
            write_atomic(path, key.encode(), mode=0o600)
    return path.read_text(encoding="ascii")


def operator_key(shop: Workshop) -> str:
    """The same, able to act at the gateway too, also where it is older than roles."""
    key = local_key(shop)
    make_operator(shop, key.split("_", 2)[1])
    return key


def key_header(shop: Workshop, url: str, *, asked: bool = False) -> Mapping[str, str]:
    """The header with this home's key; empty for another machine's address, where its holder could use it on us."""
    return {"x-api-key": local_key(shop)} if asked or is_local(url) else {}


def is_local(url: str) -> bool:
    """Whether the address is this machine's loopback."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
