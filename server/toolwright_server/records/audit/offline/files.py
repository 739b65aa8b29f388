"""Verifies files: an export, against public keys and against what a log says of checkpoints."""

import re
from pathlib import Path

from .lines import Keys, public_keys
from .report import Report
from .verifier import Logged, Verifier

# As checkpoints are logged, in whatever form the log has: chain, sequence, time in microseconds, hash.
_LOGGED = re.compile(rb"audit checkpoint ([0-9a-f]{24}) (\d{1,19}) (\d{1,19}) ([0-9a-f]{64})")


def verify_file(path: Path, keys: Keys, logged: Logged | None = None) -> Report:
    """What is wrong with an export. Raises OSError."""
    verifier = Verifier(keys, logged=logged)
    line = b"\n"
    with path.open("rb") as file:
        for line in file:
            verifier.feed(line.removesuffix(b"\n"))
    return verifier.finish(complete=line.endswith(b"\n"))


def read_keys(paths: list[Path]) -> Keys:
    """The keys of PEM files. Raises OSError, and ValueError for a file without one."""
    found: Keys = {}
    for path in paths:
        try:
            found |= public_keys(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return found


def read_log(paths: list[Path]) -> Logged:
    """The checkpoints that log files name, whatever else stands in them. Raises OSError."""
    found: dict[tuple[str, int], tuple[bytes, int]] = {}
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                for chain, sequence, time, digest in _LOGGED.findall(line):
                    found[chain.decode(), int(sequence)] = bytes.fromhex(digest.decode()), int(time)
    return found


def sentences(report: Report) -> list[str]:
    """The report for people, line by line; nothing of the file's own text stands in it unquoted."""
    of = "all tenants" if report.tenant is None else f"tenant {report.tenant!r}"
    verdict = "valid" if report.valid else "NOT VALID"
    said = [f"{verdict}: {report.entries} entries in {report.chains} chains, {report.checkpoints} checkpoints, {of}"]
    if report.unsigned:
        said.append(f"{report.unsigned} entries stand behind the last checkpoint of their server: linked, not signed")
    for problem in report.problems:
        where = f"line {problem.line}" + (f", chain {problem.chain!r}" if problem.chain else "")
        said.append(f"{problem.fault.value}: {where}: {problem.says}")
    if report.problem_count > len(report.problems):
        said.append(f"and {report.problem_count - len(report.problems)} more problems")
    return said
