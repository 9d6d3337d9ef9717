"""Tables that lie in files beside a log of their own, which says what is part of them: Delta is read by it.

The folder of such a table also holds files that are no part of it any more, since rows were changed or files merged.
To read all that is there counts rows twice, so that this is refused.
"""

from __future__ import annotations

import os
import threading
from glob import has_magic
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from monitor.engines.parquet import Index
from monitor.engines.paths import PARTITION, spelt
from monitor.errors import EngineError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from deltalake import DeltaTable

LOG = "_delta_log"
_STALE = "its folder also holds files that are no part of it any more"
_ELSEWHERE = "read it through Spark or another engine, as a table"


def is_log(files: str) -> bool:
    """Return whether a path is that of a Delta table's log, and stands for the table's files."""
    return Path(files).name == LOG


def refuse(files: str) -> None:
    """Look whether files lie in a table whose log says which of them are part of it.

    Raises:
        EngineError: They do.

    Cost:
        A few looks at each folder above them.
    """
    if "://" in files:
        return
    plain = takewhile(lambda part: not has_magic(part), Path(os.path.abspath(files)).parts)
    folder = Path(*plain)
    for place in (folder, *folder.parents):
        if (place / LOG).is_dir():
            raise EngineError(f"files {files}: {place} is a Delta table, and {_STALE}; write files: {place / LOG}")
        if (place / ".hoodie").is_dir() or any((place / "metadata").glob("*.metadata.json")):
            raise EngineError(f"files {files}: {place} is a table of Hudi or Iceberg, and {_STALE}; {_ELSEWHERE}")


class DeltaIndex(Index):
    """The files of one Delta table: those that its log names, which is read on from where it was read to.

    Args:
        log: The folder of the log.
    """

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self._path = Path(log)
        self._reading = threading.Lock()
        self._table: DeltaTable | None = None
        self._mark: tuple[int, int] | None = None
        self._named: list[str] = []

    def whole(self, connection: sa.Connection) -> str:
        """Return the table function over the files that are part of the table now."""
        return f"read_parquet({spelt(self.named())}, union_by_name = true)"

    def _paths(self, connection: sa.Connection) -> list[str]:
        return self.named()

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

        try:
            # What has the number of the last version is another file where the table was made anew.
            if self._table is None or self._mark != self._seen(self._table):
                self._table, self._mark = DeltaTable(self._path.parent), None
            before = self._table.version()
            self._table.update_incremental()
            if self._mark is None or self._table.version() != before:
                self._named, self._mark = _files(self._table), self._seen(self._table)
        except (DeltaError, OSError) as error:
            self._table = None
            raise EngineError(f"files {self._path}: {' '.join(str(error).split())}") from error
        except EngineError:
            self._table = None
            raise
        return self._named

    def _seen(self, table: DeltaTable) -> tuple[int, int] | None:
        try:
            entry = os.stat(self._path / f"{table.version():020}.json")
        except OSError:
            return None
        return entry.st_ino, entry.st_mtime_ns


def _files(table: DeltaTable) -> list[str]:
    """Return the files of a table, whose rows are all that is in them, under the names of its columns."""
    where, metadata, features = table.table_uri, table.metadata(), table.protocol().reader_features or []
    files = table.file_uris()
    if not files:
        raise EngineError(f"files {where}: the table is empty; it can be read once it has rows")
    if metadata.configuration.get("delta.columnMapping.mode", "none") != "none":
        raise EngineError(f"files {where}: the files call its columns otherwise (column mapping); {_ELSEWHERE}")
    if "deletionVectors" in features and any(batch.num_rows for batch in table.deletion_vectors()):
        way_out = "merge them in (REORG TABLE ... APPLY (PURGE)), or " + _ELSEWHERE
        raise EngineError(f"files {where}: rows are deleted beside the files (deletion vectors); {way_out}")
    parted = set(metadata.partition_columns)
    if any(parted - {unquote(key) for key in PARTITION.findall(path)} for path in files):
        raise EngineError(f"files {where}: its parts do not lie in folders by name, such as dt=...; {_ELSEWHERE}")
    return files
