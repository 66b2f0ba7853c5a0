"""Named SQL statements, kept out of the code in `.sql` files beside the modules that use them.

    -- name: step
    -- Anything said here stays in the file.
    select 1;

Statements are single: asyncpg prepares them. Each is sent with its file and name in front, so that
`pg_stat_activity` speaks our language.
"""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^--\s*name:\s*(\w+)\s*$", re.MULTILINE)
_COMMENT_LINE = re.compile(r"^\s*--.*\n?", re.MULTILINE)


class Statements(dict[str, str]):
    """The statements of one file, by key or attribute."""

    def __getattr__(self, name: str) -> str:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no statement named {name}") from None


def load(path: Path) -> Statements:
    """The statements of a file. Raises ValueError for a name given twice or SQL before the first name."""
    return parse(path.read_text(), source=path.stem)


def beside(module_file: str) -> Statements:
    """The statements of the `.sql` file that stands beside a module: `SQL = beside(__file__)`."""
    return load(Path(module_file).with_suffix(".sql"))


def parse(text: str, *, source: str) -> Statements:
    """The statements in `text`."""
    head, *parts = _NAME.split(text)
    if _COMMENT_LINE.sub("", head).strip():
        raise ValueError(f"{source}.sql has SQL before its first name")
    statements = Statements()
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"{source}.sql names {name} twice")
        sql = _COMMENT_LINE.sub("", body).strip().removesuffix(";")
        statements[name] = f"/* {source}.{name} */ {sql}"
    return statements
