"""A table as CSV (RFC 4180), on standard output. Never lets a user's name become a formula of a spreadsheet."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toolwright_server.commands.printing import printable

# What a spreadsheet may compute, as OWASP's page on CSV injection lists it; other control characters never come out.
_FORMULA = ("=", "+", "-", "@", "\t")


def write(heads: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """One line for each row, below the heads. Text that a spreadsheet could take for a formula gets a `'` before it."""
    writer = csv.DictWriter(sys.stdout, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows({head: _harmless(cell) for head, cell in row.items()} for row in rows)


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text
