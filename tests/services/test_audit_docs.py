"""What docs/audit.md shows is run as it stands there: commands against a server, the program against their export."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

from .test_audit_service import KEY, OPERATOR, serving

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
SECONDS = 60.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


async def run(folder: Path, address: str, *command: str) -> int:
    environment = {"PATH": str(Path(sys.executable).parent), "TOOLWRIGHT_ADDRESS": address}
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment)
    return await asyncio.wait_for(process.wait(), SECONDS)


@pytest.mark.asyncio
async def test_the_commands_and_the_program_of_the_page_work(tmp_path: Path) -> None:
    async with serving() as there:
        there.write(5)
        there.service.caller = OPERATOR
        (tmp_path / "audit.key.pub").write_bytes(KEY.public_pem)
        commands = [line for block in blocks("sh") for line in block.splitlines()]
        assert len(commands) == 4
        for command in commands:
            assert await run(tmp_path, there.address, *shlex.split(command)) == 0, command
        (program,) = blocks("python")
        assert await run(tmp_path, there.address, sys.executable, "-c", program) == 0
        file = tmp_path / "trail.jsonl"
        file.write_bytes(file.read_bytes().replace(b'"user":"ann"', b'"user":"bob"', 1))
        assert await run(tmp_path, there.address, sys.executable, "-c", program) == 1
