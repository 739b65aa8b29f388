import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.toolkits.knowledge.splitting import PASSAGE_CHARACTERS, Markup, lines_of, split

LINES = st.sampled_from(
    ["", "", "  ", "# One", "## Two ##", "###", "#no heading", "Title", "===", "---", "***", "word " * 60, "```",
     "```py", "~~~~", "- item", "> quote", "| a | b |", "\ttab", "x" * 1500, "ümlaut\u2028still", "\x0bform", "~~~"]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(LINES).map("\n".join), st.lists(LINES | st.text()).map("\r\n".join))


@given(TEXTS, st.sampled_from(Markup))
def test_every_line_is_in_exactly_one_passage(text: str, markup: Markup) -> None:
    lines = lines_of(text)
    passages = split(text, markup)
    numbers = [number for passage in passages for number in range(passage.start, passage.end + 1)]
    assert numbers == list(range(1, len(lines) + 1))
    for passage in passages:
        assert passage.text == "\n".join(lines[passage.start - 1 : passage.end])


@given(TEXTS)
def test_plain_text_is_cut_to_size_wherever_it_has_lines(text: str) -> None:
    for passage in split(text, Markup.PLAIN):
        # Blank lines before the first word are no reason to begin anew.
        words = passage.text.strip()
        assert len(words) <= PASSAGE_CHARACTERS or "\n" not in words


def shape(text: str, markup: Markup = Markup.MARKDOWN) -> list[tuple[int, int, str]]:
    return [(passage.start, passage.end, passage.heading) for passage in split(text, markup)]


def test_a_passage_begins_at_each_heading_and_knows_those_above() -> None:
    text = "# Guide\n\nWelcome.\n\n## Install\n\nRun it.\n\n### Linux\nYes.\n## Use ##\nSo.\n# Other\nEnd.\n"
    assert shape(text) == [
        (1, 4, "Guide"),
        (5, 8, "Guide > Install"),
        (9, 10, "Guide > Install > Linux"),
        (11, 12, "Guide > Use"),
        (13, 14, "Other"),
    ]


def test_a_heading_without_text_goes_with_what_follows_it() -> None:
    assert shape("# Guide\n\n## Install\n\nRun it.\n") == [(1, 5, "Guide > Install")]


def test_underlined_headings_are_headings() -> None:
    assert shape("Guide\n=====\nHello.\n\nInstall\n-------\nRun it.\n") == [(1, 4, "Guide"), (5, 7, "Guide > Install")]


def test_a_rule_a_table_and_a_list_are_no_headings() -> None:
    assert shape("Text.\n\n---\n\n- item\n---\n\n| a |\n|---|\n| b |\n") == [(1, 10, "")]


def test_front_matter_is_no_heading() -> None:
    assert shape("---\ntitle: Guide\n---\n# Guide\nHello.\n") == [(1, 3, ""), (4, 5, "Guide")]
    assert shape("---\n\nText.\n") == [(1, 3, "")]


@pytest.mark.parametrize("fence", ["```", "~~~", "````", "   ```"])
def test_a_fence_stays_whole_and_what_looks_like_a_heading_in_it_is_none(fence: str) -> None:
    code = "\n".join([fence + "sh", *["# a comment " * 5, ""] * 60, fence])
    text = f"# Guide\n\nBefore.\n\n{code}\n\nAfter.\n"
    passages = split(text, Markup.MARKDOWN)
    assert {passage.heading for passage in passages} == {"Guide"}
    assert sum(code in passage.text for passage in passages) == 1


def test_an_inner_shorter_or_other_fence_closes_nothing() -> None:
    assert shape("````\n```\n# no\n~~~\n````\n# Yes\nText.\n") == [(1, 5, ""), (6, 7, "Yes")]


def test_an_unclosed_fence_goes_to_the_end() -> None:
    assert shape("# A\ntext\n```\n# no\n") == [(1, 4, "A")]


def test_paragraphs_are_gathered_up_to_the_limit() -> None:
    paragraph = "word " * 80
    passages = split("\n\n".join([paragraph] * 10), Markup.MARKDOWN)
    assert len(passages) == 5
    assert all(400 < len(passage.text) <= PASSAGE_CHARACTERS for passage in passages)


def test_restructured_text_has_headings_of_its_own() -> None:
    text = "=====\nGuide\n=====\n\nHello.\n\nInstall\n-------\n\nRun.\n\nLinux\n~~~~~\n\nYes.\n\nUse\n---\n\nSo.\n"
    assert shape(text, Markup.RST) == [
        (1, 6, "Guide"),
        (7, 11, "Guide > Install"),
        (12, 16, "Guide > Install > Linux"),
        (17, 20, "Guide > Use"),
    ]


def test_plain_text_has_no_headings() -> None:
    assert shape("# not a heading\n\nTitle\n=====\n", Markup.PLAIN) == [(1, 4, "")]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_numbered_as_editors_do(newline: str) -> None:
    assert lines_of(newline.join(["a", "b\x0c\u2028c", ""])) == ["a", "b\x0c\u2028c"]
    assert lines_of("") == []
    assert lines_of("\n") == [""]


@pytest.mark.parametrize(
    "line", ["# " + " " * 200_000, "#" * 200_000, "> " * 100_000, "`" * 200_000, " " * 200_000, "# a" + " #" * 100_000]
)
def test_no_line_takes_long_to_split(line: str) -> None:
    start = time.process_time()
    split("\n".join([line] * 3), Markup.MARKDOWN)
    # Bounds the growth, not the speed: what backtracks takes minutes.
    assert time.process_time() - start < 10
