"""Splits a text into passages at headings and paragraphs. Every line belongs to exactly one passage.

Code fences and front matter stay whole, whatever their size; other paragraphs are cut between lines when they alone
exceed the limit. Pure text: knows neither files nor the index.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

PASSAGE_CHARACTERS = 1200

_ATX = re.compile(r" {0,3}(#{1,6})(?![^ \t])")
_FENCE = re.compile(r"[ \t]*(?:>[ \t]*)*(`{3,}|~{3,})(.*)")
_RST_UNDERLINES = "=-~^\"'`*+#:._"


class Markup(Enum):
    """How headings are written."""

    MARKDOWN = "markdown"
    RST = "rst"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Passage:
    """Lines `start` to `end` (from 1, both included), and the headings above them: `Guide > Install`."""

    start: int
    end: int
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines that stay together as far as possible, by index, `end` excluded. `level` above 0: a heading."""

    start: int
    end: int
    level: int = 0
    title: str = ""
    whole: bool = False


def lines_of(text: str) -> list[str]:
    """The lines as editors number them; a newline at the end begins no further line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def split(text: str, markup: Markup) -> list[Passage]:
    """All passages, in order."""
    lines = lines_of(text)
    passages: list[Passage] = []
    titles: list[tuple[int, str]] = []
    start, size, only_headings, heading = 0, 0, True, ""

    def close(end: int) -> None:
        if end > start:
            passages.append(Passage(start + 1, end, heading, "\n".join(lines[start:end])))

    for block in _blocks(lines, markup):
        length = sum(len(line) + 1 for line in lines[block.start : block.end])
        begins_anew = block.level > 0 and not only_headings
        if begins_anew or (size and not only_headings and size + length > PASSAGE_CHARACTERS):
            close(block.start)
            start, size, only_headings = block.start, 0, True
        if block.level:
            titles = [entry for entry in titles if entry[0] < block.level] + [(block.level, block.title)]
            heading = " > ".join(title for _, title in titles if title)
        else:
            only_headings = only_headings and not any(line.strip() for line in lines[block.start : block.end])
        size += length
    close(len(lines))
    return passages


def _blocks(lines: Sequence[str], markup: Markup) -> Iterator[_Block]:
    """Blocks that cover every line once; blank lines belong to what is before them."""
    at = 0
    if markup is Markup.MARKDOWN and (end := _front_matter(lines)):
        yield _Block(0, end, whole=True)
        at = end
    underlines: dict[str, int] = {}
    while at < len(lines):
        block = _heading(lines, at, markup, underlines) or _fence(lines, at, markup) or _paragraph(lines, at, markup)
        yield from [block] if block.whole or block.level else _cut(lines, block)
        at = block.end


def _front_matter(lines: Sequence[str]) -> int:
    """Where the lines after the front matter begin; 0 without any."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    for index in range(1, len(lines)):
        if lines[index].rstrip() in ("---", "..."):
            return index + 1
        if not lines[index].strip():
            return 0
    return 0


def _heading(lines: Sequence[str], at: int, markup: Markup, underlines: dict[str, int]) -> _Block | None:
    if markup is Markup.PLAIN or not lines[at].strip():
        return None
    if markup is Markup.MARKDOWN and (found := _ATX.match(lines[at])):
        return _Block(at, at + 1, len(found[1]), _without_closing(lines[at][found.end() :].strip()))
    if markup is Markup.RST and (found := _overlined(lines, at, underlines)):
        return found
    if at + 1 == len(lines) or (at and lines[at - 1].strip() and markup is Markup.RST):
        return None
    return _underlined(lines, at, markup, underlines)


def _overlined(lines: Sequence[str], at: int, underlines: dict[str, int]) -> _Block | None:
    """A title with the same line above and below it."""
    if at + 2 >= len(lines) or not _is_underline(lines[at], 0) or not lines[at + 1].strip():
        return None
    if lines[at + 2].rstrip() != lines[at].rstrip():
        return None
    return _Block(at, at + 3, underlines.setdefault("over" + lines[at][0], len(underlines) + 1), lines[at + 1].strip())


def _underlined(lines: Sequence[str], at: int, markup: Markup, underlines: dict[str, int]) -> _Block | None:
    title, below = lines[at].strip(), lines[at + 1].rstrip()
    if markup is Markup.MARKDOWN:
        # Of a list item, quotation, table or rule, a line of dashes is no underline.
        if re.fullmatch(r" {0,3}(=+|-{2,})", below) and re.match(r"\w|[\"'(`*_]+\w", title):
            return _Block(at, at + 2, 1 if "=" in below else 2, title)
        return None
    if not _is_underline(below, len(title)) or _is_underline(title, 0):
        return None
    return _Block(at, at + 2, underlines.setdefault(below[0], len(underlines) + 1), title)


def _without_closing(title: str) -> str:
    """`Title ##` is called `Title`, `C#` stays as it is."""
    bare = title.rstrip("#")
    return bare.rstrip() if not bare or bare != bare.rstrip() else title


def _is_underline(line: str, length: int) -> bool:
    bare = line.rstrip()
    return len(bare) >= max(3, length) and bare[0] in _RST_UNDERLINES and bare == bare[0] * len(bare)


def _fence(lines: Sequence[str], at: int, markup: Markup) -> _Block | None:
    """A fenced block to its closing fence, or to the end as Markdown has it."""
    opening = _FENCE.fullmatch(lines[at]) if markup is Markup.MARKDOWN else None
    if opening is None or (opening[1][0] == "`" and "`" in opening[2]):
        return None
    for index in range(at + 1, len(lines)):
        closing = _FENCE.fullmatch(lines[index])
        if closing and closing[1].startswith(opening[1]) and not closing[2].strip():
            return _Block(at, index + 1, whole=True)
    return _Block(at, len(lines), whole=True)


def _paragraph(lines: Sequence[str], at: int, markup: Markup) -> _Block:
    """Up to and with the blank lines that follow, or up to a heading or fence."""
    end = at
    while end < len(lines) and lines[end].strip() and (end == at or not _interrupts(lines[end], markup)):
        end += 1
    while end < len(lines) and not lines[end].strip():
        end += 1
    return _Block(at, end)


def _interrupts(line: str, markup: Markup) -> bool:
    return markup is Markup.MARKDOWN and bool(_ATX.match(line) or _FENCE.fullmatch(line))


def _cut(lines: Sequence[str], block: _Block) -> Iterator[_Block]:
    """The block in pieces of at most the limit, cut between lines."""
    start, size = block.start, 0
    for index in range(block.start, block.end):
        length = len(lines[index]) + 1
        if size and size + length > PASSAGE_CHARACTERS:
            yield _Block(start, index)
            start, size = index, 0
        size += length
    yield _Block(start, block.end)
