"""docs/errors.md is what the table of errors says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_of_errors_is_up_to_date() -> None:
    script = ROOT / "scripts" / "generate_errors_doc.py"
    command = [sys.executable, str(script), "--check"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
