"""Cells that need a data set or a package: the magic `%%needs` (lessons 12 and 14)."""

from __future__ import annotations

import ast

from mbm_lab import lessons


def load_ipython_extension(shell) -> None:
    """`%load_ext mbm_lab.needs` makes `%%needs` known in a notebook.

    A cell that begins with `%%needs mnist fsdd` runs only where both data sets are, and one with
    `%%needs keras` only where that package is. Without, it says in one sentence how to get it, once
    for each name; later cells are passed over.
    """
    told: set[str] = set()

    def run_or_tell(line: str, cell: str) -> object:
        missing = [name for name in line.split() if not lessons.is_here(name)]
        if not missing:
            return _run(shell, cell)
        for name in missing:
            if name not in told:
                told.add(name)
                todo = lessons.how_to_get(name)
                print(f"Cells that need {name} are passed over; to have it, {todo}.")
        return None

    shell.register_magic_function(run_or_tell, "cell", lessons.NEEDS.removeprefix("%%"))


def _run(shell, cell: str) -> object:
    """Runs a cell's code in the notebook, and gives its last expression, which Jupyter shows."""
    tree, file = ast.parse(cell), shell.compile.cache(cell)  # errors can quote the cell's lines
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, file, "exec"), shell.user_ns)
    return last and eval(compile(last, file, "eval"), shell.user_ns)
