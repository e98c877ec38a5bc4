"""Puts small faults into the course's modules on purpose, one at a time: does a test notice?

    python -m tests.mutants --per-module 6 --seed 1

A *mutant* is a module with one small fault: a wrong sign, another axis, a mask that is forgotten. A
good suite of tests *kills* it: some test fails. One that *survives* shows what no test looks at
(DeMillo, Lipton and Sayward, 1978). A few mutants do the same as the module itself, so that nobody
could kill them: they are in EQUIVALENT, with the reason.

Every mutant lives in a copy of the working tree, which is itself never changed; so two runs may go
on at once. First the module's own tests see it, then those of all files that import the module,
then the other quick tests. This is a tool for those who change the course, not a test.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "mbm_lab"
MODULES = (
    "fusion", "training", "writing", "retrieval", "speech", "translation", "video", "preprocessing",
    "datasets", "albums", "postcards",
)  # fmt: skip

EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "mbm_lab/retrieval.py",
        "find_picture = -(right * scores.T.log_softmax(1)).sum(1).mean()",
        "find_picture = -(right * scores.T.log_softmax(1)).sum(0).mean()",
    ): "the table is square: the mean of its rows' sums is that of its columns' sums",
}
"""(file, before, after) of the mutants that nobody can tell from the module, and why."""


@dataclass(frozen=True)
class Mutant:
    """A module with one small fault. before and after: the lines around it, as one line."""

    path: str  # from the repository: "mbm_lab/fusion.py"
    line: int
    kind: str
    before: str
    after: str
    code: bytes = field(repr=False)  # the whole file, with the fault

    @property
    def reason(self) -> str | None:
        """Why this mutant is equivalent, if it is."""
        return EQUIVALENT.get((self.path, self.before, self.after))


# --- Faults

OTHER = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
OPERATORS = {
    ast.Add: "sign", ast.Sub: "sign", ast.Mult: "factor", ast.Div: "factor", ast.BitAnd: "mask",
    ast.BitOr: "mask", ast.Lt: "off by one", ast.LtE: "off by one", ast.Gt: "off by one",
    ast.GtE: "off by one",
}  # fmt: skip
WITH_AXIS = {
    "sum", "mean", "softmax", "log_softmax", "argmax", "cat", "stack", "topk", "sort", "argsort",
    "max", "min", "any", "all", "roll", "flip", "unbind", "logsumexp",
}  # fmt: skip
OTHER_AXIS = {0: 1, 1: 0, 2: 1, -1: 0}
OTHER_END = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum",
             "argmin": "argmax", "argmax": "argmin"}  # fmt: skip
MODES = {"eval", "train", "train_mode", "zero_grad", "requires_grad_", "manual_seed"}
WITHOUT_GRADIENTS = {"no_grad", "evaluating"}
SHOWN_ONLY = {"print", "tqdm"}


def altered(node: ast.AST, **fields) -> ast.AST:
    """A node like this one, with other values in some fields."""
    return type(node)(**(dict(ast.iter_fields(node)) | fields))


def number(node: ast.AST) -> int | None:
    """The whole number that stands here, such as -1."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
    return value if type(value) is int else None


def is_text(node: ast.AST) -> bool:
    """Whether a text stands here, or a sum or path that ends in one."""
    if isinstance(node, ast.BinOp):
        return is_text(node.left) or is_text(node.right)
    if isinstance(node, ast.AugAssign):
        return is_text(node.value)
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def name_of(call: ast.Call) -> str:
    """The last part of what is called: "mean" in scores.mean(1)."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


class Faults(ast.NodeVisitor):
    """Collects the mutants of one module: faults inside functions, and in nothing that is only said
    or shown (docstrings, annotations, errors, prints, any other text)."""

    def __init__(self, path: str, source: str):
        self.path, self.source = path, source.encode()  # ast counts bytes
        self.lines = self.source.splitlines(keepends=True)
        self.functions: list[ast.FunctionDef] = []  # those around the node that is visited
        self.found: list[Mutant] = []
        self.visit(ast.parse(source))

    def add(self, kind: str, node: ast.AST, new: ast.AST | str) -> None:
        """The mutant that has `new` in the place of a node; all other text stays as it is."""
        if not self.functions:
            return
        text = new if isinstance(new, str) else ast.unparse(new)
        if isinstance(new, ast.BinOp | ast.BoolOp | ast.Compare | ast.UnaryOp):
            text = f"({text})"
        above, below = self.lines[: node.lineno - 1], self.lines[node.end_lineno :]
        changed = self.lines[node.lineno - 1][: node.col_offset] + text.encode()
        changed += self.lines[node.end_lineno - 1][node.end_col_offset :]
        old = b"".join(self.lines[node.lineno - 1 : node.end_lineno])
        code = b"".join([*above, changed, *below])
        old, changed = (" ".join(part.decode().split()) for part in (old, changed))
        self.found.append(Mutant(self.path, node.lineno, kind, old, changed, code))

    def visit_all(self, nodes: Sequence[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    # What holds other nodes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node)
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if isinstance(default, ast.Constant):
                self.change_constant(default, "default")
        self.visit_all([*node.decorator_list, *node.body])
        self.functions.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit_all([node.value])

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    visit_JoinedStr = visit_Raise

    def visit_Return(self, node: ast.Return) -> None:
        """What comes in goes out as it is, where both are of one type."""
        function = self.functions[-1]
        for argument in function.args.args:
            same = argument.annotation and function.returns
            same = same and ast.unparse(argument.annotation) == ast.unparse(function.returns)
            if same and node.value and ast.unparse(node.value) != argument.arg:
                self.add("unchanged", node.value, argument.arg)
                break
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and name_of(node.value) in MODES:
            self.add("mode", node, "pass")
        self.generic_visit(node)

    # What computes

    def visit_BinOp(self, node: ast.BinOp | ast.AugAssign) -> None:
        if type(node.op) in OTHER and not is_text(node):
            self.add(OPERATORS[type(node.op)], node, altered(node, op=OTHER[type(node.op)]()))
        self.generic_visit(node)

    visit_AugAssign = visit_BinOp

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.add("logic", node, altered(node, op=OTHER[type(node.op)]()))
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        real = any(type(getattr(part, "value", 0)) is float for part in node.comparators)
        for i, op in enumerate(node.ops):
            if real and OPERATORS.get(type(op)):  # no number ever lies on the border itself
                continue
            ops = [*node.ops[:i], OTHER[type(op)](), *node.ops[i + 1 :]]
            self.add(OPERATORS.get(type(op), "comparison"), node, altered(node, ops=ops))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        kind = {ast.USub: "sign", ast.Invert: "mask", ast.Not: "logic"}.get(type(node.op))
        if kind:
            self.add(kind, node, node.operand)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        self.change_constant(node)

    def change_constant(self, node: ast.Constant, kind: str | None = None) -> None:
        if isinstance(node.value, bool):
            self.add(kind or "constant", node, str(not node.value))
        elif isinstance(node.value, float):
            value = 1.1 * node.value if node.value else 0.1
            self.add(kind or "constant", node, f"{value:.6g}")
        elif isinstance(node.value, int):
            for value in (node.value + 1, node.value - 1):
                self.add(kind or "off by one", node, str(value))

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Load):
            if isinstance(node.slice, ast.Compare | ast.BinOp | ast.UnaryOp):
                if not isinstance(getattr(node.slice, "op", None), ast.Add | ast.Sub | ast.USub):
                    self.add("mask", node, node.value)
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None and number(bound) is None:
                self.add("off by one", bound, f"{ast.unparse(bound)} + 1")
        if number(node.step) == -1:
            self.add("order", node.step, "1")
            self.visit_all([node.lower, node.upper])
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name, axes = name_of(node), []
        if name in SHOWN_ONLY:
            return
        if name == "masked_fill":
            self.add("mask", node, node.func.value)
        if name == "where":
            self.add("mask", node, node.args[-1])
        if name in WITHOUT_GRADIENTS:
            self.add("mode", node, "torch.enable_grad()")
        if name == "detach":
            self.add("mode", node, node.func.value)
        if name == "range" and number(node.args[-1]) is None:
            self.add("off by one", node.args[-1], f"{ast.unparse(node.args[-1])} - 1")
        if name == "sorted":
            backwards = ast.keyword("reverse", ast.Constant(True))
            self.add("order", node, altered(node, keywords=[*node.keywords, backwards]))
        if name in OTHER_END:
            which = "id" if isinstance(node.func, ast.Name) else "attr"
            func = altered(node.func, **{which: OTHER_END[name]})
            self.add("order", node, altered(node, func=func))
        if name in WITH_AXIS and isinstance(node.func, ast.Attribute):
            axes += node.args[-1:] if name not in ("topk", "roll") else node.args[1:]
        for keyword in node.keywords:
            others = [other for other in node.keywords if other is not keyword]
            if keyword.arg == "generator":
                self.add("generator", node, altered(node, keywords=others))
            if keyword.arg in ("dim", "axis"):
                axes.append(keyword.value)
            if keyword.arg in OTHER_END and len(node.keywords) == 1:
                other = ast.keyword(OTHER_END[keyword.arg], keyword.value)
                self.add("order", node, altered(node, keywords=[other]))
        axes = [axis for axis in axes if number(axis) in OTHER_AXIS]
        for axis in axes:
            self.add("axis", axis, str(OTHER_AXIS[number(axis)]))
        # strict=True is a guard against a programmer's slip, as an assertion is
        values = [keyword.value for keyword in node.keywords if keyword.arg != "strict"]
        self.visit_all([part for part in [node.func, *node.args, *values] if part not in axes])


def files_of(module: str, root: Path = REPOSITORY) -> list[str]:
    """The files of a module, or of a folder of modules."""
    path = root / PACKAGE / module
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return [file.relative_to(root).as_posix() for file in files]


def mutants_of(module: str, root: Path = REPOSITORY) -> list[Mutant]:
    """All mutants of a module."""
    files = files_of(module, root)
    return [one for file in files for one in Faults(file, (root / file).read_text("utf-8")).found]


def draw(found: Sequence[Mutant], count: int, rng: random.Random) -> list[Mutant]:
    """So many of them by chance, of all files and all kinds in turn."""

    def in_turn(groups: list[list[Mutant]]) -> list[Mutant]:
        rng.shuffle(groups)
        rounds = itertools.zip_longest(*groups)
        return [one for group in rounds for one in group if one is not None]

    groups: dict[str, dict[str, list[Mutant]]] = {}
    for mutant in rng.sample(found, len(found)):
        groups.setdefault(mutant.path, {}).setdefault(mutant.kind, []).append(mutant)
    return in_turn([in_turn(list(kinds.values())) for kinds in groups.values()])[:count]


# --- Tests

ONCE = ("data", "notebooks")
"""Folders of the working tree that a copy only points to."""
LEFT_OUT = ("__pycache__", ".git", ".venv", ".*_cache", ".hypothesis", "my_lessons", "*.egg-info")


def copy_tree(root: Path, to: Path) -> None:
    """Copies a working tree, without what the tests do not need."""
    shutil.copytree(root, to, ignore=shutil.ignore_patterns(*LEFT_OUT, *ONCE))
    for name in ONCE:
        if (root / name).exists():
            (to / name).symlink_to(root / name, target_is_directory=True)


def stages(module: str, root: Path = REPOSITORY) -> list[list[str]]:
    """The files of tests: the module's own, those that import it, all others."""
    files = sorted((root / "tests").rglob("test_*.py"))
    names = [file.relative_to(root).as_posix() for file in files if file.stem != "test_mutants"]
    own = [name for name in names if name == f"tests/test_{module}.py"]
    importing = [n for n in names if n not in own and imports(root / n, module)]
    return [own, importing, [name for name in names if name not in (*own, *importing)]]


def imports(file: Path, module: str) -> bool:
    """Whether a file imports a module of the package, or from it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                whole = f"{getattr(node, 'module', '')}.{alias.name}".split(".")
                if PACKAGE in whole and module in whole:
                    return True
    return False


def run_tests(tree: Path, files: Sequence[str], seconds: float | None = None) -> str | None:
    """Runs quick tests up to the first that fails: its name, or None. A run that takes longer than
    so many seconds has failed, too."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "--color=no"]
    settings = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}  # no code of before
    settings |= {"OMP_NUM_THREADS": "1", "MBM_DEVICE": "cpu", "PYTEST_ADDOPTS": ""}
    with open(tree / "output.txt", "w+", encoding="utf-8") as output:
        try:
            code = subprocess.run(
                [*command, "-p", "no:cacheprovider", *files], cwd=tree, env=os.environ | settings,
                stdout=output, stderr=subprocess.STDOUT, timeout=seconds,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return "(no end)"
        output.seek(0)
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output.read(), flags=re.M)
    if code in (0, 5):  # 5: there was no quick test in these files
        return None
    return failed[1] if failed else f"(pytest ended with {code})"


class Judge:
    """Shows mutants to the tests of a working tree."""

    def __init__(self, root: Path = REPOSITORY, stages: int = 3):
        self.root, self.stages = root, stages
        self.seconds: dict[str, float] = {}  # of the tests, when nothing is wrong

    def killer(self, module: str, mutant: Mutant) -> str | None:
        """The test that kills a mutant, or None."""
        compile(mutant.code, mutant.path, "exec")
        for files in stages(module, self.root)[: self.stages]:
            if not files:
                continue
            limit = 60 + 5 * self.time_without_fault(files)
            with tempfile.TemporaryDirectory() as folder:
                tree = Path(folder, "tree")
                copy_tree(self.root, tree)
                (tree / mutant.path).write_bytes(mutant.code)
                if killed := run_tests(tree, files, limit):
                    return killed
        return None

    def time_without_fault(self, files: Sequence[str]) -> float:
        """The seconds that tests take. Raises SystemExit when one fails: then it kills nothing."""
        key = " ".join(files)
        if key not in self.seconds:
            with tempfile.TemporaryDirectory() as folder:
                tree = Path(folder, "tree")
                copy_tree(self.root, tree)
                start = time.perf_counter()
                if failed := run_tests(tree, files):
                    raise SystemExit(f"{failed} fails without any mutant: mend it first.")
            self.seconds[key] = time.perf_counter() - start
        return self.seconds[key]


# --- The command


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table of mutants, and what killed each. Returns 1 when one survived."""
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--module", action="append", metavar="NAME", help="only this one; may be repeated")
    add("--per-module", type=int, metavar="N", help="so many of each, drawn by chance")
    add("--seed", type=int, default=0, help="of the draw")
    add("--line", type=int, help="only mutants of this line")
    add("--list", action="store_true", help="only list the mutants")
    further = "1: the module's own tests; 2: and those that import it; 3 (default): all quick tests"
    add("--stages", type=int, default=3, choices=(1, 2, 3), metavar="S", help=further)
    options = parser.parse_args(argv)

    modules = options.module or MODULES
    for module in modules:
        if not (REPOSITORY / files_of(module)[0]).is_file():
            parser.error(f"there is no module {module}")
    judge, ends, survived = Judge(stages=options.stages), {}, []
    print("| place | kind | before → after | killed by |\n|---|---|---|---|")
    for module in modules:
        found = [one for one in mutants_of(module) if options.line in (None, one.line)]
        if options.per_module is not None:
            found = draw(found, options.per_module, random.Random(f"{options.seed}/{module}"))
        ends[module] = Counter(made=len(found))
        for mutant in found:
            change = f"`{mutant.before}` → `{mutant.after}`"
            if options.list:
                end = ""
            elif mutant.reason:
                end = f"equivalent: {mutant.reason}"
                ends[module]["equivalent"] += 1
            elif killed := judge.killer(module, mutant):
                end = killed
                ends[module]["killed"] += 1
            else:
                end = "**survived**"
                ends[module]["survived"] += 1
                survived.append(mutant)
            print(f"| {mutant.path}:{mutant.line} | {mutant.kind} | {change} | {end} |", flush=True)

    columns = ("made", "killed", "equivalent", "survived")
    print(f"\n| module | {' | '.join(columns)} |\n|---|---|---|---|---|")
    for module, counts in (ends | {"all": sum(ends.values(), Counter())}).items():
        print(f"| {module} | {' | '.join(str(counts[column]) for column in columns)} |")
    for mutant in survived:
        print(f"\n{mutant.path}:{mutant.line}, {mutant.kind}\n- {mutant.before}\n+ {mutant.after}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
