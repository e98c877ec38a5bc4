"""Merges a learner's notebook with a newer one of the course, cell by cell, by their common origin.

nbdime finds what each of the two changed. Where both changed the same lines, both versions stand in
the merged notebook, between marks. It runs without git, and gives the same on every computer.
"""

from difflib import SequenceMatcher

import nbformat
from nbformat import NotebookNode

YOURS = "<<<<<<< yours"
MIDDLE = "======="
COURSE = ">>>>>>> the course's"
YOU_DELETED = "<<<<<<< you deleted this cell, and the course changed it"
COURSE_DELETED = "<<<<<<< the course deleted this cell, and you changed it"

# How nbdime marks cells, and how they are marked here.
MARKS = {
    '<span style="color:red"><b><<<<<<< local</b></span>': YOURS,
    '<span style="color:red"><b>=======</b></span>': MIDDLE,
    '<span style="color:red"><b>>>>>>>> remote</b></span>': COURSE,
    "<<<<<<< LOCAL CELL DELETED >>>>>>>": YOU_DELETED,
    "<<<<<<< REMOTE CELL DELETED >>>>>>>": COURSE_DELETED,
}


def merge(origin: NotebookNode, yours: NotebookNode, course: NotebookNode) -> NotebookNode:
    """What the course changed since the origin, in the learner's notebook; without outputs.

    Where both changed the same, both stand there, between marks: see `conflicts`. The metadata of
    the notebook is the course's. Raises ValueError when the three cannot be merged.
    """
    from nbdime.diffing.notebooks import diff_notebooks
    from nbdime.merging.decisions import apply_decisions
    from nbdime.merging.generic import decide_merge_with_diff
    from nbdime.merging.notebooks import notebook_merge_strategies
    from nbdime.prettyprint import DefaultConfig

    DefaultConfig.use_git = DefaultConfig.use_diff = False  # they may be missing
    origin, yours, course = (_plain(notebook) for notebook in (origin, yours, course))
    strategies = notebook_merge_strategies(None)
    strategies["/cells/*/metadata"] = "use-local"
    try:
        decisions = decide_merge_with_diff(
            origin,
            yours,
            course,
            diff_notebooks(origin, yours),
            diff_notebooks(origin, course),
            strategies,
        )
        for decision in decisions:
            if decision.conflict:
                _show_both(decision, origin)
        merged = apply_decisions(origin, decisions)
        for cell in merged.cells:
            lines = cell.source.split("\n")
            cell.source = "\n".join(MARKS.get(line.strip(), line) for line in lines)
        merged.metadata = course.metadata
        merged = nbformat.v4.upgrade(merged)  # gives every cell a name again
        nbformat.validate(merged)
    except Exception as error:  # nbdime asserts what it did not foresee
        raise ValueError(
            f"The two versions cannot be merged ({type(error).__name__}); nothing was changed: "
            "take the course's version with `mbm-lab lessons --fresh NUMBER`, which keeps yours."
        ) from error
    return merged


def conflicts(notebook: NotebookNode) -> list[tuple[int, str]]:
    """Where both versions stand, or a deleted cell came back: (cell, counted from 1; section)."""
    begin = (YOURS, YOU_DELETED, COURSE_DELETED)
    found, section = [], "the beginning"
    for place, cell in enumerate(notebook.cells, start=1):
        for line in cell.source.split("\n"):
            if cell.cell_type == "markdown" and line.startswith("#"):
                section = line.strip("# ")
            if line in begin:
                found.append((place, section))
    return found


def report(notebook: NotebookNode) -> str:
    """How many conflicts a merged notebook shows, and where, in words for the learner."""
    places = conflicts(notebook)
    if not places:
        return "Nothing of yours stood in the way of what is new."
    many = "1 place" if len(places) == 1 else f"{len(places)} places"
    lines = [f"In {many} you and the course changed the same. Look for {YOURS[:7]} and decide:"]
    lines += [f"  cell {place}, in: {section}" for place, section in places]
    return "\n".join(lines)


def _plain(notebook: NotebookNode) -> NotebookNode:
    """A copy with all that a merge looks at: no outputs, and no names of cells."""
    plain = NotebookNode(nbformat=4, nbformat_minor=4, metadata=notebook.metadata, cells=[])
    for cell in notebook.cells:
        cell = NotebookNode({key: cell[key] for key in cell if key != "id"})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        plain.cells.append(cell)
    return plain


def _show_both(decision, origin: NotebookNode) -> None:
    """Merges the text of a cell line by line, where nbdime without git repeats the whole cell."""
    from nbdime import patch
    from nbdime.diff_format import op_addrange, op_replace

    if decision.action != "custom" or len(decision.custom_diff) != 1:
        return
    (change,) = decision.custom_diff
    if change.key == "source":  # both changed this cell
        cell = origin.cells[decision.common_path[1]]
        yours = patch(cell, decision.local_diff).source
        course = patch(cell, decision.remote_diff).source
        decision.custom_diff = [op_replace("source", merge_text(cell.source, yours, course))]
    elif change.op == "addrange" and len(change.valuelist) == 1:  # two new cells, much alike
        (yours,), (course,) = (
            diff[0].valuelist for diff in (decision.local_diff, decision.remote_diff)
        )
        text = merge_text("", yours.source, course.source)
        decision.custom_diff = [op_addrange(change.key, [NotebookNode({**yours, "source": text})])]


def merge_text(origin: str, yours: str, course: str) -> str:
    """What both changed in a text; where they changed the same lines, both stand between marks."""
    old, mine, theirs = (text.split("\n") for text in (origin, yours, course))
    in_mine, in_theirs = _places(old, mine), _places(old, theirs)
    shared = [place for place in range(len(old)) if place in in_mine and place in in_theirs]
    lines, i, j, k = [], 0, 0, 0
    for place in [*shared, len(old)]:
        j_end, k_end = in_mine.get(place, len(mine)), in_theirs.get(place, len(theirs))
        before, one, other = old[i:place], mine[j:j_end], theirs[k:k_end]
        if one == other or other == before:
            lines += one
        elif one == before:
            lines += other
        else:
            lines += [YOURS, *one, MIDDLE, *other, COURSE]
        lines += old[place : place + 1]
        i, j, k = place + 1, j_end + 1, k_end + 1
    return "\n".join(lines)


def _places(old: list[str], new: list[str]) -> dict[int, int]:
    """Where the lines that stayed were, and where they are now."""
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return {block.a + n: block.b + n for block in blocks for n in range(block.size)}
