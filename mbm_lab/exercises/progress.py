"""What a learner has solved: a small file beside the learner's copies of the lessons.

It is never sent anywhere. Every function reads the file anew, so that it survives a restarted
kernel and two notebooks that are open at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from mbm_lab import atomic, lessons


def path() -> Path:
    """`my_lessons/progress.json`, or the file that the variable MBM_PROGRESS names."""
    return Path(os.environ.get("MBM_PROGRESS") or lessons.MY_LESSONS / "progress.json")


def load() -> dict[str, dict]:
    """What is remembered: {"04.weighted_sum": {"tries": 2, "solved": True}, …}.

    Raises ValueError when the file is damaged, OSError when it cannot be read.
    """
    if not path().exists():
        return {}
    try:
        states = json.loads(path().read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        states = None
    if not isinstance(states, dict) or not all(isinstance(one, dict) for one in states.values()):
        raise ValueError(
            f"{path()} is damaged, so your progress cannot be read: repair the file, or move it "
            "away to begin anew."
        )
    return states


def record(key: str, **changes: bool) -> None:
    """Counts one more try (tried=True), or remembers solved=True or solution_seen=True.

    Who solved an exercise and looks at the solution afterwards has solved it alone: a solution
    that is seen later is not remembered.

    Raises ValueError when the file is damaged (it is left as it is), OSError when it cannot be
    written.
    """
    states = load()
    state = states.setdefault(key, {})
    if changes.pop("tried", False):
        state["tries"] = state.get("tries", 0) + 1
    if state.get("solved"):
        changes.pop("solution_seen", None)
    state.update(changes)
    path().parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(states, indent=1)
    atomic.write_whole(path(), lambda part: part.write_text(text, encoding="utf-8"))


def reset() -> None:
    """Forgets everything."""
    path().unlink(missing_ok=True)
