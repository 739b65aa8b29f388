import os
from pathlib import Path

import pytest

from toolwright_server import ToolError
from toolwright_server.errors import SettingsError
from toolwright_server.toolkits.knowledge import toolkit, tools
from toolwright_server.toolkits.knowledge.sources import locate, parse_all

from .calls import SyncCall, reason, write

SUFFIXES = (".md", ".txt")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    write(
        folder,
        {
            "README.md": "readme",
            "notes.txt": "notes",
            "script.py": "no",
            ".hidden.md": "no",
            "docs/a.md": "a",
            "docs/deep/er/b.MD": "b",
            "docs/.git/c.md": "no",
            "other/d.md": "d",
        },
    )
    monkeypatch.chdir(folder)
    return folder


def names(*entries: str) -> list[str]:
    unreadable: list[str] = []
    sources = parse_all([Path(entry) for entry in entries])
    found = [found for source in sources for folder in source.scan(SUFFIXES, unreadable) for found in folder]
    assert unreadable == []
    for file in found:
        assert locate(file.name, sources, SUFFIXES) == file.path
    return sorted(file.name for file in found)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["docs"], ["docs/a.md", "docs/deep/er/b.MD"]),
        (["docs/deep"], ["docs/deep/er/b.MD"]),
        (["."], ["README.md", "docs/a.md", "docs/deep/er/b.MD", "notes.txt", "other/d.md"]),
        (["*.md"], ["README.md"]),
        (["README.md", "*.txt"], ["README.md", "notes.txt"]),
        (["docs/*.md", "other"], ["docs/a.md", "other/d.md"]),
        (["*.md", "docs"], ["README.md", "docs/a.md", "docs/deep/er/b.MD"]),
        (["../here/docs"], ["docs/a.md", "docs/deep/er/b.MD"]),
        ([], []),
    ],
)
def test_files_are_called_as_their_folder_was_written(here: Path, entries: list[str], expected: list[str]) -> None:
    assert names(*entries) == expected


def test_an_absolute_folder_goes_by_its_own_name(here: Path) -> None:
    assert names(str(here / "docs")) == ["docs/a.md", "docs/deep/er/b.MD"]


@pytest.mark.parametrize(
    "entries",
    [["docs", "docs"], ["docs", "docs/deep"], ["docs/deep", "docs"], [".", "*.md"], ["docs", "docs/*.md"],
     ["../here", "."]],
)  # fmt: skip
def test_a_folder_is_named_once(here: Path, entries: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\[toolkit.knowledge\] folders: .*name each folder once"):
        toolkit.configure({"folders": entries}, tmp_path)


def test_two_folders_may_not_give_their_files_the_same_names(here: Path, tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/docs/a.md": "other a"})
    with pytest.raises(SettingsError, match="files or names in common"):
        toolkit.configure({"folders": ["docs", str(tmp_path / "elsewhere" / "docs")]}, tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"folders": ["nowhere"]}, "folders: .*nowhere: there is no such file or folder"),
        ({"folders": ["nowhere/*.md"]}, "there is no such file or folder"),
        ({"folders": ["script.py"]}, "script.py: its suffix is not one of .md"),
        ({"folders": "docs"}, "folders"),
        ({"suffixes": ["md"]}, "suffixes: .*must begin with a dot"),
        ({"max_file_bytes": 0}, "max_file_bytes"),
        ({"folder": ["docs"]}, "folder: "),
    ],
)
def test_settings_that_cannot_be_right_are_refused_by_name(
    here: Path, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=rf"\[toolkit.knowledge\] .*{words}"):
        toolkit.configure(settings, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../secret.md", "docs/../../secret.md", "/etc/passwd.md", "docs/.git/c.md", ".hidden.md", "script.py",
     "docs//a.md", "docs/./a.md", "docs", "", ".", "docs/a.md\0", "docs/a.md/", "other/d.md", "docs/\ud800.md"],
)  # fmt: skip
def test_a_name_leads_nowhere_but_into_the_folders(here: Path, tmp_path: Path, name: str) -> None:
    write(tmp_path, {"secret.md": "secret"})
    assert locate(name, parse_all([Path("docs"), Path("*.md")]), SUFFIXES) is None
    toolkit.configure({"folders": ["docs", "*.md"]}, tmp_path / "data")
    with pytest.raises(ToolError) as caught:
        tools.read_lines(name)
    assert reason(caught.value) == "FILE_NOT_FOUND"


def test_links_are_never_followed(here: Path, tmp_path: Path) -> None:
    write(tmp_path, {"outside/secret.md": "secret words"})
    (here / "docs" / "file.md").symlink_to(tmp_path / "outside" / "secret.md")
    (here / "docs" / "folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    (here / "docs" / "inner.md").symlink_to(here / "docs" / "a.md")
    assert names("docs") == ["docs/a.md", "docs/deep/er/b.MD"]
    toolkit.configure({"folders": ["docs"]}, tmp_path / "data")
    assert tools.search(SyncCall(), "secret").passages == []
    for name in ("docs/file.md", "docs/folder/secret.md", "docs/inner.md"):
        with pytest.raises(ToolError) as caught:
            tools.read_lines(name)
        assert reason(caught.value) == "FILE_NOT_FOUND"


def test_a_folder_that_is_a_link_itself_was_named_by_the_operator(here: Path) -> None:
    (here / "manual").symlink_to(here / "docs", target_is_directory=True)
    assert names("manual") == ["manual/a.md", "manual/deep/er/b.MD"]


def test_pipes_and_the_like_are_not_read(here: Path) -> None:
    os.mkfifo(here / "docs" / "pipe.md")
    assert names("docs") == ["docs/a.md", "docs/deep/er/b.MD"]


def test_signs_of_patterns_in_names_stand_for_themselves(here: Path) -> None:
    write(here, {"odd[1]/x.md": "x", "what?.md": "y", "whats.md": "z"})
    assert names("odd[1]", "what?.md") == ["odd[1]/x.md", "what?.md"]


def test_a_name_that_is_no_utf8_is_reported_and_left_out(here: Path, tmp_path: Path) -> None:
    path = os.fsencode(here / "docs") + b"/\xff.md"
    Path(os.fsdecode(path)).write_text("unreachable")
    toolkit.configure({"folders": ["docs"]}, tmp_path / "data")
    report = tools.index(SyncCall())
    assert (report.added, report.skipped_files) == (2, 1)
    assert report.skipped[0].file == "docs/\\udcff.md"
