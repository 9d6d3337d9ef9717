"""Fills in ``${NAME}``, ``${NAME:-default}`` and ``${file:PATH}``; ``$${`` stands for a plain ``${``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from checks.dataset import closest

MOST_BYTES = 65_536
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inner>[^{}]*)\}|\$\{")
_INNER = re.compile(r"file:(?P<file>.+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
# None of these can stand in the user or password of a URL as they are.
_RESERVED = frozenset("@:/?#[] ")


@dataclass(frozen=True)
class Filled:
    """A text with its references filled in.

    Args:
        text: What became of it; a reference that leads nowhere is left out.
        has_reference: Whether anything was filled in, so that the text may be secret.
        problems: What is wrong with references, each as rule and what to do.
    """

    text: str
    has_reference: bool
    problems: tuple[tuple[str, str], ...]


class References:
    """What references stand for.

    Args:
        environ: Where names are looked up.
        folder: Where relative paths start.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ, self._folder = environ, folder

    def fill(self, text: str) -> Filled:
        """Return a text with its references filled in.

        A reference between ``://`` and ``@`` is the user or password of a URL: it is percent-encoded
        if it has a character that cannot stand there otherwise.
        """
        problems: list[tuple[str, str]] = []
        has_reference = False

        def one(match: re.Match[str]) -> str:
            nonlocal has_reference
            if match[0] == "$${":
                return "${"
            has_reference = True
            try:
                found = self._found(match["inner"])
            except LookupError as error:
                problems.append(error.args)
                return ""
            is_login = _is_login(text[: match.start()], text[match.end() :])
            return quote(found, safe="") if is_login and _RESERVED & set(found) else found

        filled = _REFERENCE.sub(one, text)
        return Filled(filled, has_reference, tuple(problems))

    def _found(self, inner: str | None) -> str:
        match = _INNER.fullmatch(inner or "")
        if match is None:
            # What stands there may be the secret itself.
            todo = "write ${NAME}, ${NAME:-default} or ${file:PATH}, or $${ for a plain ${"
            raise LookupError("has a ${ that starts no reference", todo)
        if match["file"]:
            return self._content(match["file"])
        name, default = match["name"], match["default"]
        # As in a shell, a default also stands for what is set and empty.
        found = self._environ.get(name) or default
        if found is None and name not in self._environ:
            close = closest(name, self._environ)
            todo = f"export it, or did you mean {close}?" if close else "export it"
            raise LookupError(f"the environment variable {name} is not set", todo)
        return found or ""

    def _content(self, name: str) -> str:
        todo = "check its path and rights"
        try:
            with (self._folder / Path(name).expanduser()).open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except (OSError, RuntimeError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise LookupError(f"the file {name} cannot be read: {why}", todo) from None
        if len(content) > MOST_BYTES:
            raise LookupError(f"the file {name} has more than {MOST_BYTES:,} bytes", todo)
        try:
            # Editors end a file with a new line, which is no part of the secret.
            return content.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise LookupError(f"the file {name} is no UTF-8 text", todo) from None


def _is_login(before: str, after: str) -> bool:
    """Return whether a place lies between the ``://`` and the ``@`` of a URL."""
    _scheme, found, rest = _REFERENCE.sub("", before).rpartition("://")
    host = re.split("[/?]", _REFERENCE.sub("", after))[0]
    return bool(found) and not set("@/?") & set(rest) and "@" in host
