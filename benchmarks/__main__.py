"""`python -m benchmarks`: compares ours with a bare gRPC server and prints ratios beside their targets.

Exit code 0 also when a target is missed (this is a report), 1 when an answer was wrong, 2 when something broke.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import WrongAnswerError
from benchmarks.load import h2load_version, with_h2load, with_python
from benchmarks.plan import NAMES, Plan


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="how often each pair is compared (default 10)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long each run lasts (default 2)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of half a second: to see that it works")
    parser.add_argument("--only", choices=NAMES, action="append", help="only this comparison; may be repeated")
    parser.add_argument("--self-check", action="store_true", help="the bare server against itself: ratios of about 1")
    parser.add_argument("--generator", choices=("h2load", "python"), help="default: h2load where it is installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run to this file")
    parser.add_argument("--rival", metavar="PYTHON", help="the interpreter of an environment that has FastMCP")
    chosen = parser.parse_args(given)
    if chosen.rounds < 1 or chosen.seconds <= 0:
        parser.error("--rounds must be at least 1 and --seconds more than 0")
    if chosen.generator == "h2load" and h2load_version() is None:
        parser.error("h2load is not installed; install Debian's nghttp2-client or use --generator python")
    if "rival" in (chosen.only or ()) and not chosen.rival:
        parser.error("--only rival needs --rival")
    return chosen


def main(given: Sequence[str]) -> int:
    """Makes the comparisons, prints each when it is done, and the machine they were made on."""
    chosen = arguments(given)
    generator = chosen.generator or ("h2load" if h2load_version() else "python")
    rounds, seconds = (3, 0.5) if chosen.quick else (chosen.rounds, chosen.seconds)
    generate = with_h2load if generator == "h2load" else with_python
    names = tuple(chosen.only or NAMES)
    if generator != "h2load" or not chosen.rival:
        names = tuple(name for name in names if name != "rival")
        print("not compared with FastMCP: that needs h2load and --rival", flush=True)
    plan = Plan(rounds, seconds, generate, names, chosen.rival or "")
    facts = {**report.machine(), "generator": report.generator(generator)}
    print("\n".join(f"{name:<14}{fact}" for name, fact in facts.items()), flush=True)
    if (warning := report.busy()) is not None:
        print(f"{'beware':<14}{warning}", flush=True)
    found: list[dict[str, object]] = []
    paragraphs: list[str] = []
    try:
        for comparison, verdict in plan.self_check() if chosen.self_check else plan.servers():
            paragraphs.append(report.text(comparison, verdict))
            found.append(report.data(comparison, verdict))
    except WrongAnswerError as wrong:
        print(f"wrong answer, so the figures are worth nothing: {wrong}", file=sys.stderr)
        return 1
    except RuntimeError as broken:
        print(f"the benchmark broke: {broken}", file=sys.stderr)
        return 2
    print("\n" + "\n\n".join(paragraphs))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": facts, "comparisons": found}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
