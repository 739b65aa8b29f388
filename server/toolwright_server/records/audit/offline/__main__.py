"""`python -m offline FILE --key PUBLIC`: exit code 0 if the export is as it was made, 1 if not, 2 for usage."""

import argparse
import sys
from pathlib import Path

from .files import read_keys, read_log, sentences, verify_file


def main() -> int:
    """Verify a file; the exit code."""
    parser = argparse.ArgumentParser(description="Verify an exported audit trail.")
    parser.add_argument("file", type=Path, help="the export")
    parser.add_argument("--key", type=Path, action="append", required=True, help="public key, PEM; repeatable")
    parser.add_argument("--log", type=Path, action="append", default=[], help="log with checkpoints; repeatable")
    asked = parser.parse_args()
    try:
        report = verify_file(asked.file, read_keys(asked.key), read_log(asked.log))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.write("".join(f"{line}\n" for line in sentences(report)))
    return 0 if report.valid else 1


if __name__ == "__main__":
    sys.exit(main())
