"""Who people are on this platform: viewer, trainer, promoter, operator.

Each may what the one before may. A viewer reads. A trainer also makes runs, logs, registers, and asks models: a
prediction is captured and weighs in monitoring, so reading alone does not include it. A promoter also moves aliases,
approves and starts flows that may put something on the road. An operator also deletes, schedules, and decides about
keys and settings. Each includes the one before, since whoever promotes must see what a trainer sees; a key that only
asks models has verbs and no role.
"""

from typing import Any, Literal, get_args

Role = Literal["viewer", "trainer", "promoter", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)
VERBS_OF: dict[str, tuple[str, ...]] = {
    "viewer": ("read",),
    "trainer": ("read", "predict", "explain"),
    "promoter": ("read", "predict", "explain"),
    "operator": ("read", "predict", "explain", "operate"),
}
CLAIM_PREFIX = "roadworthy:"  # an issuer serves many programs: their roles are none of ours


def includes(role: str, needed: str) -> bool:
    """Whether who has `role` (empty: none) may do what `needed` may. An unknown role includes nothing."""
    return role in ROLES and needed in ROLES and ROLES.index(role) >= ROLES.index(needed)


def of_claim(claim: Any) -> str:
    """The highest of our roles in a token's `roles` (RFC 9068, 2.2.3.1), `roadworthy:ROLE` each; empty for none."""
    words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    named = {
        word.removeprefix(CLAIM_PREFIX) for word in words if isinstance(word, str) and word.startswith(CLAIM_PREFIX)
    }
    return max((role for role in ROLES if role in named), key=ROLES.index, default="")
