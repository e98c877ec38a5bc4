"""The learner's code as text: is it still the stub, and does a line of it do nothing?"""

from __future__ import annotations

import ast
import functools
import json
import linecache
import types
from typing import Any

from mbm_lab import lessons

Definition = ast.FunctionDef | ast.ClassDef


def functions(answer: Any) -> list[types.FunctionType]:
    """The functions that an answer is made of: itself, what it is bound to, a class's methods."""
    for _ in range(10):
        if issubclass(type(answer), functools.partial):
            answer = answer.func
        elif issubclass(type(answer), types.MethodType):
            answer = answer.__func__
    if issubclass(type(answer), types.FunctionType):
        return [answer]
    owner = answer if issubclass(type(answer), type) else type(answer)
    if owner.__module__ in ("builtins", "torch"):
        return []
    return [one for one in vars(owner).values() if isinstance(one, types.FunctionType)]


def files(answer: Any) -> set[str]:
    """The files (or cells) that hold an answer's code."""
    try:
        return {one.__code__.co_filename for one in functions(answer)}
    except Exception:
        return set()


def line(file: str, number: int) -> str:
    """A line of a file or cell, or "" where it is not known."""
    text = linecache.getline(file, number).strip()
    return text if len(text) <= 100 else text[:99] + "…"


def definition(answer: Any) -> Definition | None:
    """The definition of a function or class, parsed; None where its text is not known, and for a
    lambda."""
    try:
        mine = functions(answer)
        code = mine[0].__code__
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except Exception:
        return None
    is_class = issubclass(type(answer), type)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef if is_class else ast.FunctionDef):
            continue
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        last = node.end_lineno or first
        if node.name == answer.__name__ if is_class else node.name == code.co_name:
            inside = first <= code.co_firstlineno <= last
            if inside if is_class else first == code.co_firstlineno:
                return node
    return None


# --- Is it still the stub?


def body(node: Definition) -> list[str]:
    """What a definition does, statement for statement, without annotations and descriptions."""
    parts: list[str] = []
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            names = [one.arg for one in statement.args.args]
            parts.append(f"def {statement.name} {names} {body(statement)}")
        elif not _says_nothing(statement):
            parts.append(ast.dump(statement))
    return parts


def _says_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def is_empty(node: Definition) -> bool:
    """Whether nothing was written yet: all that a definition does is to return `...`."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            if not is_empty(statement):
                return False
        elif isinstance(statement, ast.Return):
            value = statement.value
            parts = value.elts if isinstance(value, ast.Tuple) else [value]
            if not all(isinstance(one, ast.Constant) and one.value is ... for one in parts):
                return False
        elif not _says_nothing(statement) and "super().__init__" not in ast.unparse(statement):
            return False
    return True


@functools.cache
def stub(lesson: str, module: str, exercise: str, name: str) -> Definition | None:
    """What stands in the course's lesson at the start; None where the lesson is not there."""
    try:
        text = lessons.find_lesson(lesson).read_text(encoding="utf-8")
        start = f"from mbm_lab.exercises.{module} import {exercise} as ex\n"
        for cell in json.loads(text)["cells"]:
            source = "".join(cell["source"])
            if source.startswith(start) and "ex.check(" in source:
                for node in ast.walk(ast.parse(source)):
                    if isinstance(node, Definition) and node.name == name:
                        return node
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):
        pass
    return None


# --- Does a line do nothing?

MAKES_A_NEW_ONE = {
    "masked_fill", "clamp", "clip", "squeeze", "unsqueeze", "float", "double", "long", "abs", "exp",
    "log", "sqrt", "softmax", "log_softmax", "view", "reshape", "transpose", "permute", "flip",
    "roll", "scatter", "index_fill", "where", "detach", "mean", "sum", "square", "sub", "mul",
    "div", "replace", "strip", "lower", "upper", "join", "split", "masked_scatter",
    "argsort", "cumsum", "clone", "contiguous", "norm", "gather", "index_select", "expand",
    "repeat",
}  # fmt: skip
"""Methods of tensors and texts that leave the old one as it is."""


def idle_line(node: Definition | None) -> str | None:
    """A sentence on the first line that has no effect; None where every line has one."""
    if node is None:
        return None
    for one in ast.walk(node):
        if not isinstance(one, ast.Expr):
            continue
        text = ast.unparse(one)
        shown = text if len(text) <= 60 else text[:59] + "…"
        if isinstance(one.value, ast.Attribute):
            return (
                f"The line `{shown}` does nothing, because it has no parentheses: only "
                f"`{shown}()` calls it (unless it is no function)."
            )
        if isinstance(one.value, ast.Compare):
            return (
                f"The line `{shown}` compares, and nothing is done with the result. To store "
                "something, write one =."
            )
        if (
            isinstance(one.value, ast.Call)
            and isinstance(one.value.func, ast.Attribute)
            and one.value.func.attr in MAKES_A_NEW_ONE
            and not any(key.arg == "out" for key in one.value.keywords)
        ):
            return (
                f"The line `{shown}` makes something new and leaves the old one as it was. Store "
                "what it makes: … = " + shown
            )
    return None
