"""What engines with ordinary tables share: columns by SQLAlchemy's inspector."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN

from checks.dataset import ColumnType
from monitor.engine import Location, kind_of
from monitor.errors import EngineError


def open_table(connection: sa.Connection, location: Location) -> dict[str, ColumnType]:
    """Return the columns of a table or view.

    Raises:
        EngineError: There is no such table, or the location is a set of files.
    """
    if location.table is None:
        raise EngineError(f"{location.said}: this engine reads tables; name one with table")
    try:
        columns = sa.inspect(connection).get_columns(location.table, schema=location.schema)
    except sa.exc.NoSuchTableError as error:
        raise EngineError(f"{location.said} does not exist") from error
    found = {}
    for column in columns:
        kind = column["type"]
        # A domain is what it is made of. An enumeration has a name of its own, such as print_kind, which tells nothing.
        kind = kind.data_type if isinstance(kind, DOMAIN) else kind
        declared = kind.compile(connection.dialect) if not isinstance(kind, sa.types.NullType) else "OTHER"
        if isinstance(kind, sa.Enum):
            declared = f"ENUM {kind.name}"
        found[column["name"]] = ColumnType(kind_of(declared), declared)
    return found
