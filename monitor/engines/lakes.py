"""Delta tables: the files that a table's log names are read as one dataset, under the names and types that it gives."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from monitor.engines.parquet import NOT_PARTED, Index, Mark, marks_of
from monitor.engines.paths import ELSEWHERE, PARTITION, quoted, spelt
from monitor.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa
    from deltalake import DeltaTable

# Types of columns by which a table is parted, as the log spells them; a decimal is spelt alike.
_TYPES = {
    "string": "VARCHAR", "boolean": "BOOLEAN", "byte": "TINYINT", "short": "SMALLINT", "integer": "INTEGER",
    "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "date": "DATE", "timestamp_ntz": "TIMESTAMP",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
_MOST_SAID = 200
# How often the log is read again where files went between the look at it and the look at them.
_ATTEMPTS = 3


class DeltaIndex(Index):
    """The files of one Delta table: those that its log names, which is read on from where it was read to.

    Args:
        log: The folder of the log.
    """

    def __init__(self, log: str) -> None:
        super().__init__(log)
        # As part of a glob, which a log is not, the name of a folder is escaped.
        self._path = Path(re.sub(r"\[([*?[])\]", r"\1", log))
        self._reading = threading.Lock()
        self._table: DeltaTable | None = None
        self._version: tuple[int, int] | None = None
        self._named: list[str] = []
        self._types: dict[str, str] = {}

    def whole(self, connection: sa.Connection) -> str:
        """Return the table function over the files that are part of the table now."""
        paths = self.named()
        return f"read_parquet({spelt(paths)}, union_by_name = true{self._partitions(connection, paths)[0]})"

    def refuse(self, paths: Sequence[str]) -> None:
        """Let all files be read: they are those that the log names."""

    def _marks(self, connection: sa.Connection) -> dict[str, Mark] | None:
        missing: list[str] = []
        for _attempt in range(_ATTEMPTS):
            paths = self.named()
            marks = marks_of(paths)
            missing = [path for path in paths if path not in (marks or {}) and not os.path.exists(path)]
            if not missing:
                return marks
        said = f"{len(missing):,} files that the log names are not there, such as {min(missing)}"
        raise EngineError(f"files {self._path}: {said}; restore them, or let the table forget them")

    def _partitions(self, connection: sa.Connection, paths: Sequence[str]) -> tuple[str, frozenset[str]]:
        if not self._types:
            return NOT_PARTED, frozenset()
        pinned = ", ".join(f"{quoted(key)}: {quoted(declared)}" for key, declared in self._types.items())
        return f", hive_partitioning = true, hive_types = {{{pinned}}}", frozenset(map(str.lower, self._types))

    def named(self) -> list[str]:
        """Return the files that are part of the table now.

        Raises:
            EngineError: The log cannot be read, or its files are not all that there is to know.

        Cost:
            What is new in the log.
        """
        with self._reading:
            try:
                return self._read()
            except ImportError as error:
                said = f"the package for Delta tables is missing ({error}); pip install 'recwatch[delta]'"
                raise EngineError(f"files {self._path}: {said}") from error

    def _read(self) -> list[str]:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        table, before = self._table, self._version
        self._table = None
        try:
            # What has the number of the last version is another file where the table was made anew.
            if table is None or before != self._seen(table):
                table, before = DeltaTable(self._path.parent.absolute().as_uri()), None
            version = table.version()
            table.update_incremental()
            if before is None or table.version() != version:
                self._types, self._version = _types(table), self._seen(table)
                self._named = _files(table, self._path.parent)
        except BaseException as error:
            # What the library did not foresee is no Exception, but would end the thread of the daemon.
            if not isinstance(error, DeltaError | OSError) and type(error).__name__ != "PanicException":
                raise
            # What follows is the stack of the library.
            said = re.sub(r"\s+", " ", str(error)).split(" 0: ")[0][:_MOST_SAID]
            raise EngineError(f"files {self._path}: {said}") from error
        self._table = table
        return self._named

    def _seen(self, table: DeltaTable) -> tuple[int, int] | None:
        try:
            entry = os.stat(self._path / f"{table.version():020}.json")
        except OSError:
            return None
        return entry.st_ino, entry.st_mtime_ns


def _types(table: DeltaTable) -> dict[str, str]:
    """Return the types of the columns by which a table is parted."""
    parted = table.metadata().partition_columns
    told = {field.name: str(getattr(field.type, "type", "")) for field in table.schema().fields}
    return {name: _TYPES.get(told[name], told[name].upper()) for name in parted}


def _files(table: DeltaTable, folder: Path) -> list[str]:
    """Return the files of a table, whose rows are all that is in them, under the names of its columns."""
    metadata, features = table.metadata(), table.protocol().reader_features or []
    # The library spells the folder of the table as an address, and what is in it as it is.
    root = urlsplit(table.table_uri).path
    files = [str(folder / path.removeprefix(root)) if path.startswith(root) else path for path in table.file_uris()]
    if not files:
        raise EngineError(f"files {folder}: the table is empty; it can be read once it has rows")
    if metadata.configuration.get("delta.columnMapping.mode", "none") != "none":
        raise EngineError(f"files {folder}: the files call its columns otherwise (column mapping); {ELSEWHERE}")
    if "deletionVectors" in features and any(batch.num_rows for batch in table.deletion_vectors()):
        way_out = "merge them in (REORG TABLE ... APPLY (PURGE)), or " + ELSEWHERE
        raise EngineError(f"files {folder}: rows are deleted beside the files (deletion vectors); {way_out}")
    parted = set(metadata.partition_columns)
    keys = [{unquote(key) for key in PARTITION.findall(path)} for path in files] if parted else []
    if any(parted - some for some in keys):
        raise EngineError(f"files {folder}: its parts do not lie in folders by name, such as dt=...; {ELSEWHERE}")
    columns = {field.name for field in table.schema().fields}
    if twice := (set[str]().union(*keys) - parted) & columns:
        said = f"a folder above it is called {min(twice)}=..., as a column of it"
        raise EngineError(f"files {folder}: {said}; move it, or {ELSEWHERE}")
    return files
