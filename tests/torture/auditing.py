"""Takes the audit trail with the commands that anybody would use, verifies it offline, and holds it to the history."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live import LiveServer
from toolwright.v1 import common_pb2

from .killing import ACTS
from .surviving import Survived

COMMAND = [sys.executable, "-m", "toolwright_server.main", "audit"]
SECONDS = 120
# What an execution that ended must have last.
ENDINGS = frozenset({"outcome", "recovery", "reconciliation"})


@dataclass(frozen=True, slots=True)
class Trail:
    """An export that was verified. `kinds`: of each execution the kinds of its entries, in their order."""

    entries: int
    kinds: Mapping[str, Sequence[str]]

    def wrong(self, found: Survived) -> list[str]:
        """What the trail lacks of what happened, a line each."""
        return [*self._wrong_effects(found), *self._wrong_rows(found)]

    def _wrong_effects(self, found: Survived) -> Iterator[str]:
        for effect in found.effects:
            if self.kinds.get(effect.execution_id, [""])[0] != "intent":
                yield f"{effect}: the trail has {self.kinds.get(effect.execution_id)}"

    def _wrong_rows(self, found: Survived) -> Iterator[str]:
        for row in found.rows.values():
            kinds = self.kinds.get(row.execution_id, [])
            state = common_pb2.State.Name(row.state)
            if row.tool in ACTS:
                if kinds[:1] != ["intent"] or kinds[-1] not in ENDINGS or len(kinds) < 2:
                    yield f"{row.execution_id} of {row.tool}, {state}: the trail has {kinds}"
            elif not kinds:
                yield f"{row.execution_id} of {row.tool}, {state}: the trail has nothing"


def audited(server: LiveServer, folder: Path, settings: Mapping[str, str]) -> Trail:
    """Exports the trail of a running server and verifies the file with the public key alone."""
    export, public = folder / "audit.jsonl", Path(settings["TOOLWRIGHT_AUDIT_KEY_FILE"] + ".pub")
    _run("export", "--output", str(export), "--address", server.address)
    _run("verify", str(export), "--key", str(public))
    kinds: dict[str, list[str]] = defaultdict(list)
    lines = [json.loads(line) for line in export.read_text().splitlines()]
    entries: list[dict[str, Any]] = [line for line in lines if line["type"] == "entry"]
    for entry in sorted(entries, key=lambda entry: entry["time"]):
        if entry["execution"]:
            kinds[entry["execution"]].append(entry["kind"])
    return Trail(len(entries), kinds)


def _run(*arguments: str) -> None:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ended.returncode == 0, f"toolwright audit {arguments[0]} ended with {ended.returncode}: {ended.stderr}"
