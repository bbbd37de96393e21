"""The command-line options that compare.py and scaling.py share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from machine import n_cpus
from peers import PEERS

RESULTS = Path(__file__).with_name("results")


def add_options(parser: argparse.ArgumentParser, peers: str, rounds: int, quick_rounds: int) -> None:
    parser.add_argument("--peers", help=f"some of {','.join(PEERS)} (default: {peers})")
    parser.add_argument("--threads", type=int, default=n_cpus(), help="for every peer (default: all CPUs)")
    parser.add_argument("--rounds", type=int, help=f"turns of each ({rounds}; with --quick {quick_rounds})")
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds: not to be quoted")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for JSON and plots")


def check_options(args: argparse.Namespace, rounds: int, quick_rounds: int) -> None:
    """End the program with a message if a value makes no sense; fill in the number of rounds."""
    if not 1 <= args.threads <= n_cpus():
        fail(f"--threads {args.threads}: this machine offers 1 to {n_cpus()} CPUs.")
    if args.rounds is None:
        args.rounds = quick_rounds if args.quick else rounds
    if args.rounds < 1:
        fail(f"--rounds {args.rounds}: at least 1 round is needed.")
    if PEERS["fastmlp"].why_not():
        fail("fastmlp is not installed here: run `pip install .` first.")


def chosen_peers(names: str | None, default: tuple[str, ...] = tuple(PEERS)) -> list[str]:
    """Return the peers that are named, or those of the default that can run here."""
    if names is None:
        missing = {name: reason for name in default if (reason := PEERS[name].why_not())}
        for name, reason in missing.items():
            print(f"{name} is left out: {reason}")
        return [name for name in default if name not in missing]
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        if name not in PEERS:
            fail(f"--peers: {name!r} is none of {', '.join(PEERS)}.")
        if reason := PEERS[name].why_not():
            fail(f"--peers: {name} cannot take part: {reason}.")
    return chosen


def fail(message: str) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(2)
