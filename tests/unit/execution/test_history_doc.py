"""What docs/history.md says of filters and settings is true of the code."""

import re
from pathlib import Path

import pytest

from toolwright_server.execution.query import FIELDS
from toolwright_server.execution.service import FILTER_FIELDS
from toolwright_server.rpc import filters
from toolwright_server.settings import Settings

TEXT = (Path(__file__).parents[3] / "docs" / "history.md").read_text()
FILTERS = re.findall(r"^\| `(.+?)` \|", TEXT.split("| written | meaning |")[1].split("\n\n")[0], re.MULTILINE)


@pytest.mark.parametrize("text", [*FILTERS, r'tool = "crm.\*"'])
def test_every_filter_of_the_document_can_be_read(text: str) -> None:
    filters.parse(text, FILTER_FIELDS)


def test_the_document_names_every_field() -> None:
    said = TEXT.split("\nFields: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", said)) == set(FILTER_FIELDS) == set(FIELDS)


@pytest.mark.parametrize("condition", [filters.DEPTH_LIMIT, filters.CONDITIONS_LIMIT, f"{filters.LENGTH_LIMIT:,}"])
def test_the_document_names_the_limits(condition: object) -> None:
    assert f"{condition} " in TEXT.split("At most")[1].split("\n")[0]


def test_the_document_gives_each_setting_its_default() -> None:
    written = dict(re.findall(r"^\| `(retention_\w+_days)` \| .* \| (\d+) \|$", TEXT, re.MULTILINE))
    assert written == {
        name: f"{Settings.model_fields[name].default:g}"
        for name in (
            "retention_payloads_days",
            "retention_executions_days",
            "retention_audit_days",
            "retention_usage_days",
        )
    }
