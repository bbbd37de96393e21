"""Fuzz the readers of hostile bytes, or one: `python tests/fuzz/run.py --target idx --seconds 60`.

Atheris mutates inputs and keeps those that reach something new, in build/fuzz/corpus; it begins with
seeds that are made here. It cannot instrument an editable install of fastmlp. A crash, an undocumented
exception, 30 seconds for one input or too much memory ends the run with 1 and leaves the input in
build/fuzz. `--replay FILE` runs one such input without Atheris.
`--log` adds the run to tests/fuzz/log.csv; `--total` adds that up.

Pillow loses some 1 KB with each damaged WebP or JPEG file, so runs of images of more than about 150,000
executions (five minutes or so) end at the memory limit, with exit status 71.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "fuzz"
LOG = HERE / "log.csv"
COLUMNS = ("date", "target", "executions", "seconds", "outcome")

SECONDS_PER_INPUT = 30
MOST_BYTES = {"idx": 4096, "model": 16384, "image": 8192}
MOST_MEGABYTES = 512  # with the small limits of targets.py; interpreter and libraries take 100


def main() -> int:
    options = parsed_options()
    if options.total:
        return report_totals()
    if options.replay:
        from targets import TARGETS

        TARGETS[options.target][0](options.replay.read_bytes())
        return 0
    if options.child:
        return fuzz(options.target, options.child)
    targets = [options.target] if options.target else list(MOST_BYTES)
    return max(supervise(target, options.seconds, options.log) for target in targets)


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", choices=MOST_BYTES, help="by default all, in turn")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--log", action="store_true", help="add the run to log.csv")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input alone")
    parser.add_argument("--total", action="store_true", help="add up log.csv")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay and not options.target:
        parser.error("--replay needs --target")
    return options


def supervise(target: str, seconds: int, log: bool) -> int:
    """Fuzz in a process of its own, which libFuzzer ends; its last words tell the executions."""
    corpus = BUILD / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    flags = [
        str(corpus),
        f"-max_total_time={seconds}",
        f"-max_len={MOST_BYTES[target]}",
        f"-timeout={SECONDS_PER_INPUT}",
        f"-rss_limit_mb={MOST_MEGABYTES}",
        f"-artifact_prefix={BUILD / target}-",
        "-print_final_stats=1",
    ]
    started = time.monotonic()
    command = [sys.executable, "-W", "ignore", __file__, "--target", target, "--child", *flags]
    child = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = child.stdout.decode(errors="replace")
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
    executions = int(found.group(1)) if found else 0
    took = round(time.monotonic() - started)
    if child.returncode != 0 or executions == 0:
        print(output[-6000:])
    outcome = "clean" if child.returncode == 0 and executions > 0 else f"exit status {child.returncode}"
    if "Is the code instrumented" in output:
        outcome = "not instrumented: install fastmlp without --editable"
    print(f"{target}: {executions:,} executions in {took} s, {outcome}.")
    if log:
        add_to_log(target, executions, took, outcome)
    return 0 if outcome == "clean" else 1


def add_to_log(target: str, executions: int, seconds: int, outcome: str) -> None:
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    with LOG.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow((today, target, executions, seconds, outcome))


def report_totals() -> int:
    with LOG.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for target in MOST_BYTES:
        of_target = [row for row in rows if row["target"] == target]
        executions = sum(int(row["executions"]) for row in of_target)
        seconds = sum(int(row["seconds"]) for row in of_target)
        print(f"{target}: {executions:,} executions in {seconds:,} s, {len(of_target)} runs")
    return 0


def fuzz(target: str, flags: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["fastmlp", "PIL"]):
        from targets import MUTATORS, TARGETS
    run, seeds = TARGETS[target]
    corpus = Path(flags[0])
    for seed in seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    atheris.Setup([sys.argv[0], *flags], run, custom_mutator=MUTATORS.get(target))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
