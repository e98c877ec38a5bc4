"""Plants every fault and prints a table: `python -m tests.faults [--seed N] [--module NAME]`."""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable

from mbm_lab import atomic, place
from tests import faults

PAGE = place.COURSE / "CONTRIBUTING.md"
"""Where the table stands, below its heads."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="another draw of the random faults")
    parser.add_argument("--module", help="the faults of this module alone, for example disks")
    parser.add_argument("--write", action="store_true", help="renew the table of CONTRIBUTING.md")
    options = parser.parse_args()
    began = time.perf_counter()
    ends = []
    for module in [options.module] if options.module else faults.modules():
        for fault in faults.faults_of(module, options.seed):
            outcome, said = faults.planted(fault)
            ends.append((fault.kind, outcome))
            if outcome not in faults.OUTCOMES[:2]:
                print(f"{outcome}: {fault.kind}: {fault.what}: {said}", flush=True)
    counts = counted(ends)
    print(table(counts))
    print(f"{len(ends)} faults planted in {time.perf_counter() - began:.0f} seconds.")
    if options.write and not options.module:
        write(table(counts))
    return int(any(count[bad] for count in counts.values() for bad in faults.OUTCOMES[2:]))


def counted(ends: Iterable[tuple[str, str]]) -> dict[str, Counter]:
    """How often each outcome was met, by kinds."""
    counts: dict[str, Counter] = {}
    for kind, outcome in ends:
        counts.setdefault(kind, Counter())[outcome] += 1
    return counts


def table(counts: dict[str, Counter]) -> str:
    """How the faults of each kind ended, and of all together, in Markdown."""
    rows = [("kind", "faults", *faults.OUTCOMES)]
    for kind, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        rows.append((kind, str(count.total()), *(str(count[one]) for one in faults.OUTCOMES)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


STANDS = re.compile(r"\| kind +\| faults .*\n(?:\|.*\n)+")


def written() -> dict[str, list[int]]:
    """The table that stands in CONTRIBUTING.md: the numbers of each kind's row."""
    lines = STANDS.search(PAGE.read_text(encoding="utf-8"))[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {kind: [int(number) for number in numbers] for kind, *numbers in cells}


def write(new: str) -> None:
    """Puts a new table in its place."""
    text, times = STANDS.subn(f"{new}\n", PAGE.read_text(encoding="utf-8"))
    if times != 1:
        raise ValueError(f"{PAGE} has {times} tables of faults: leave one there.")
    atomic.write_whole(PAGE, lambda part: part.write_text(text, encoding="utf-8"))
    print(f"Written: the table in {PAGE.name}")


if __name__ == "__main__":
    sys.exit(main())
