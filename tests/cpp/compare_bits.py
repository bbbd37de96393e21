"""Compare what the C++ test driver printed on several machines: `python compare_bits.py FILE FILE...`.

Each line reads "instruction-set item hash". Every set with fused multiply-add must have come to the same bits
in the same items; the baseline set is left out, and so are products of bfloat16 pairs and mixed_bfloat16
training, which promise their bits per set only. Exits with 1, naming the items, if any differ, and if there
are fewer than two sets to compare.
"""

from __future__ import annotations

import sys
from pathlib import Path

NOT_COMPARED_SETS = frozenset({"baseline"})
NOT_COMPARED_ITEMS = ("pairs_", "train_mixed_bfloat16")  # beginnings of their names


def hashes_by_set(texts: list[str]) -> dict[str, dict[str, str]]:
    """Give each set's hash of each item; ValueError if two files disagree about the same set."""
    sets: dict[str, dict[str, str]] = {}
    for line in (line for text in texts for line in text.splitlines()):
        instruction_set, rest = line.split(" ", 1)
        item, bits = rest.rsplit(" ", 1)
        if sets.setdefault(instruction_set, {}).setdefault(item, bits) != bits:
            raise ValueError(f"{instruction_set} {item} came out twice, with different bits.")
    return sets


def differences(sets: dict[str, dict[str, str]]) -> list[str]:
    """Name what differs between the fused sets, in the order of the first one's items."""
    compared = {
        name: {item: bits for item, bits in hashes.items() if not item.startswith(NOT_COMPARED_ITEMS)}
        for name, hashes in sets.items()
        if name not in NOT_COMPARED_SETS
    }
    if len(compared) < 2:
        return [f"Two sets are needed to compare, but there is only {', '.join(compared) or 'none'}."]
    (reference, expected), *others = compared.items()
    return [
        f"{item}: {name} differs from {reference}"
        for name, hashes in others
        for item in expected | hashes
        if hashes.get(item) != expected.get(item)
    ]


def main(paths: list[str]) -> int:
    sets = hashes_by_set([Path(path).read_text(encoding="utf-8") for path in paths])
    found = differences(sets)
    for line in found[:20]:
        print(line)
    counts = ", ".join(f"{name} {len(hashes)}" for name, hashes in sets.items())
    print(f"Items: {counts}. {len(found)} differences.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
