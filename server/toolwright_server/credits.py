"""Credits as people write them, and as they are counted: whole micros, a millionth of a credit each. Never a float."""

import re
from decimal import Decimal
from typing import Final

MICROS: Final = 1_000_000
"""Of one credit."""

MOST_MICROS: Final = 10**15
"""Of one price or one grant: a thousand million credits."""

_WRITTEN: Final = re.compile(r"(\d{1,9}|1000000000)(\.\d{1,6})?")


def micros(amount: int | str | Decimal) -> int:
    """The micros of so many credits. Raises ValueError for what is negative, too much, or finer than a micro."""
    text = format(amount, "f") if isinstance(amount, Decimal) else str(amount)
    if isinstance(amount, bool | float) or not _WRITTEN.fullmatch(text):
        raise ValueError(f"{amount!r} is no amount of credits: write 5, or '0.25' as text, at most 6 decimals")
    found = int(Decimal(text) * MICROS)
    if found > MOST_MICROS:
        raise ValueError(f"{amount!r} credits are more than {MOST_MICROS // MICROS}")
    return found


def words(amount: int) -> str:
    """Micros as people read them: `1,234.5`."""
    whole, rest = divmod(abs(amount), MICROS)
    text = f"{whole:,}" + (f".{rest:06}".rstrip("0") if rest else "")
    return f"-{text}" if amount < 0 else text
