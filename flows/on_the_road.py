"""What follows a promotion, unattended: the Bento, and the roll-out of a deployed product.

A roll-out that goes back takes the registry back with it, so that what answers and what is called live are one.
"""

from typing import Any

from flows.workshop import Workshop


def on_the_road(shop: Workshop, product: str, plan: dict[str, Any] | None = None) -> dict[str, Any]:
    """Package what is live and, where the product is deployed with another version, roll it out.

    plan: fields of `flows.roll_out.Plan`, e.g. {"dwell_s": 5}. Under `verdict`: "packaged", "live", or "rolled back"
    with its `reason`.
    """
    from flows.deployed import deployments
    from flows.package import package_live
    from flows.roll_out import Plan, roll_out

    bento = package_live(shop, product)
    record = {"verdict": "packaged", "bento": bento.tag, "reason": ""}
    deployed = deployments(shop).find(product)
    if deployed is None or (deployed.version, deployed.candidate) == (bento.version, None):
        return record
    rolled = roll_out(shop, product, bento.version, Plan(**plan) if plan else None)
    if rolled["verdict"] == "rolled back":
        shop.registry.rollback(product)
    return {**record, "verdict": rolled["verdict"], "reason": rolled["reason"], "stages": rolled["stages"]}
