"""The toolkit and its settings."""

import functools
from pathlib import Path

import pydantic
from pydantic import Field

from toolwright_server import ToolError, Toolkit, ToolkitSettings
from toolwright_server.toolkits.knowledge.sources import Source, parse_all

_SUFFIXES = (".md", ".markdown", ".rst", ".txt")


class KnowledgeSettings(ToolkitSettings):
    """`[toolkit.knowledge]`."""

    suffixes: list[str] = Field(default_factory=lambda: list(_SUFFIXES))
    # Folders (with all below them), files, and patterns such as "*.md"; relative to where the server is started.
    folders: list[Path] = Field(default_factory=list[Path])
    # Larger files are left out, and named by knowledge.index and knowledge.status.
    max_file_bytes: int = Field(default=2 * 1024 * 1024, ge=1, le=64 * 1024 * 1024)
    max_files: int = Field(default=20_000, ge=1)
    # A search looks for changed files at most this often, and spends at most this long on it.
    check_interval_seconds: float = Field(default=1.0, ge=0, le=3600)
    check_seconds: float = Field(default=0.25, gt=0, le=60)

    @pydantic.field_validator("suffixes")
    @classmethod
    def _dotted(cls, suffixes: list[str]) -> list[str]:
        for suffix in suffixes:
            if not suffix.startswith(".") or len(suffix) == 1:
                raise ValueError(f"{suffix!r} must begin with a dot, such as '.md'")
        return [suffix.lower() for suffix in suffixes]

    @pydantic.field_validator("folders")
    @classmethod
    def _exist(cls, folders: list[Path], info: pydantic.ValidationInfo) -> list[Path]:
        suffixes: list[str] = info.data.get("suffixes", [])
        parse_all(folders)
        for folder in folders:
            if folder.is_file() and folder.resolve().suffix.lower() not in suffixes:
                raise ValueError(f"{folder}: its suffix is not one of {', '.join(suffixes)}; add it to suffixes")
        return folders

    def model_post_init(self, _context: object, /) -> None:
        """Resolve the folders now: a later change of the working directory changes nothing."""
        _ = self.sources

    @functools.cached_property
    def sources(self) -> tuple[Source, ...]:
        """The entries of `folders`, resolved."""
        return parse_all(self.folders)


toolkit: Toolkit[KnowledgeSettings] = Toolkit("knowledge", settings=KnowledgeSettings)


def configured() -> KnowledgeSettings:
    """The settings. Raises NOT_CONFIGURED when no folder is named in them."""
    if not toolkit.settings.folders:
        raise ToolError(
            'no folders are configured: name them in the server\'s settings, [toolkit.knowledge] folders = ["docs"]',
            reason="NOT_CONFIGURED",
            user_message="There is no knowledge base here yet.",
            suggested_action="Ask the operator to set folders in [toolkit.knowledge]; do not try again until then.",
        )
    return toolkit.settings
