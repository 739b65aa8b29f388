import subprocess
import sys
import tomllib
from pathlib import Path

from toolwright_server.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "configuration.md"


def test_the_document_says_what_the_settings_are() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_configuration_doc.py", "--check"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_setting_has_a_line_of_its_own() -> None:
    text = DOCUMENT.read_text()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert text.count(f"| `{name}` |") == 1


def test_the_example_in_the_document_is_a_configuration() -> None:
    example = DOCUMENT.read_text().split("```toml\n", 1)[1].split("```", 1)[0]
    settings = Settings(**tomllib.loads(example))
    assert settings.toolkits == ("crm", "knowledge")
    assert settings.category_timeouts_seconds["crm"] == 8
