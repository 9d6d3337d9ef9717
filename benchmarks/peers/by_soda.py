"""What Soda Core can do of it, pushed down to DuckDB: ``by_soda.py FOLDER``.

Volume, freshness, missing ids, ids in the catalogue, duplicates, closed sets, ranges. It has no look-back,
causes, matrix, popularity or burn rates.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import duckdb
from soda.scan import Scan
from timed import END, EVENT_TYPES, report

CHECKS = f"""
checks for events:
  - row_count > 0
  - freshness(ingested_at) < 1d
  - missing_count(user_id) >= 0
  - missing_count(item_id) >= 0
  - values in (user_id) must exist in users (user_id)
  - values in (item_id) must exist in items (item_id)
  - duplicate_count(event_id) >= 0
  - invalid_count(event_type) >= 0:
      valid values: [{", ".join(EVENT_TYPES)}]
  - invalid_count(value) >= 0:
      valid min: 0
"""


def run(folder: Path) -> Any:
    """Scan once."""
    engine = duckdb.connect()
    for name, files in (("events", "events/*"), ("users", "users"), ("items", "items")):
        engine.execute(f"CREATE VIEW {name} AS FROM read_parquet('{folder}/{files}.parquet')")
    scan = Scan()
    scan.set_data_source_name("duckdb")
    scan.add_duckdb_connection(engine)
    scan.add_variables({"NOW": END.isoformat()})
    scan.add_sodacl_yaml_str(CHECKS)
    logging.disable(logging.CRITICAL)
    scan.execute()
    results = scan.get_scan_results()["checks"]
    if any(result["outcome"] is None for result in results):
        raise SystemExit(scan.get_logs_text())
    return [result["outcome"] for result in results]


report(run)
