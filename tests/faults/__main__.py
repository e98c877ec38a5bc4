"""Plants every fault and prints a table: `python -m tests.faults [--seed N] [--module NAME]`."""

import argparse
import collections
import importlib
import sys
import tempfile
from pathlib import Path

from tests import faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="another draw of the random faults")
    parser.add_argument("--module", help="the faults of this module alone, for example files")
    options = parser.parse_args()
    if options.module:
        planted = importlib.import_module(f"tests.faults.{options.module}").faults(options.seed)
    else:
        planted = faults.campaign(options.seed)
    counts: dict[str, collections.Counter] = {}
    for fault in planted:
        with tempfile.TemporaryDirectory() as folder:
            outcome, said = faults.plant(fault, Path(folder))
        counts.setdefault(fault.kind, collections.Counter())[outcome] += 1
        if outcome not in faults.OUTCOMES[:2]:
            print(f"{outcome}: {fault.kind}: {fault.what}: {said}", flush=True)
    print(table(counts))
    return int(any(count[bad] for count in counts.values() for bad in faults.OUTCOMES[2:]))


def table(counts: dict[str, collections.Counter]) -> str:
    """How the faults of each kind ended, and of all together."""
    total = sum(counts.values(), collections.Counter())
    rows = [("kind", "faults", *faults.OUTCOMES)]
    for kind, count in [*counts.items(), ("all", total)]:
        rows.append((kind, str(count.total()), *(str(count[one]) for one in faults.OUTCOMES)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


if __name__ == "__main__":
    sys.exit(main())
