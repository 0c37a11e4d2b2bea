"""The weekly restore drill as a flow, with a table that people find in Prefect."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact


@flow(name="drill")
def drill(to: str = "") -> dict[str, Any]:
    """Restore the newest backup beside this home, compare ids and golden predictions, remove the copy."""
    from flows.restore_drill import run_drill
    from flows.workshop import open_workshop

    record = run_drill(open_workshop(), to)
    table = [
        {"what": f"{row['database']} {row['ids']}", "then": row["then"], "now": row["now"]} for row in record["ids"]
    ]
    table += [{"what": f"answer of {row['product']}", "then": "", "now": row["verdict"]} for row in record["golden"]]
    create_table_artifact(table, key="drill", description=f"{record['id']}, {record['seconds']} s")
    return record
