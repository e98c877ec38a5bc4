"""Every sentence that an error says names the value that was wrong and what to do about it.

The sentences are read from the modules' text, with all ways in which their parts can come together;
what is known only when they are said stands in them as ⟨its name⟩.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice, product
from typing import NamedTuple

import pytest

import mbm_lab
from mbm_lab import place, rows
from tests.faults import CURE

MODULES = sorted(
    path.relative_to(place.COURSE).as_posix()
    for folder in ("mbm_lab", "workshop")
    for path in (place.COURSE / folder).rglob("*.py")
    if "course" not in path.relative_to(place.COURSE / folder).parts[:1]
)

MOST = 64
"""Of a sentence's ways to be put together this many are looked at."""

WHERE = {"UnreadableError": (0, 1), "Refused": (1,), "HTTPError": (1,)}
"""Which arguments of an error are its sentence, where it is not the first."""

IN_WORDS = ("kind",)
"""Functions that say in words what a value is: "a NumPy array"."""

SPEAKERS = ("_warn",)
"""What prints its first argument as an error, besides `print(…, file=sys.stderr)`."""

ERROR = re.compile("(?<!NotImplemented)(Error|Refused|Trouble)$")
"""Names of errors."""

PASSED_ON = re.compile(r"⟨str\(error\)[^⟩]*⟩")
"""What another error said, and nothing else."""

JARGON = re.compile(
    r"NoneType|Traceback|TypeError|KeyError|IndexError|AttributeError|dtype|ndarray|__\w+__|"
    r"\bkwargs?\b|\bargs\b|\bstr\b|\bbool\b|<class"
)


class Sentence(NamedTuple):
    """What an error says, and where it stands."""

    module: str
    line: int
    function: str
    text: str


def sentences(source: str, module: str) -> Iterator[Sentence]:
    """Every sentence that a module raises as an error, or prints as one."""
    if not re.search("raise |stderr", source):
        return
    read = Reader(ast.parse(source))
    for node in dict.fromkeys(read.said):
        if isinstance(node, ast.Name):  # an error without a word
            said = [""]
        elif _prints(node):  # an error that is only passed on has no words here
            said = [text for text in read.texts(node.args[0]) if re.sub("⟨[^⟩]*⟩", "", text)]
        else:
            said = [text for text in read.error(node) if not PASSED_ON.fullmatch(text)]
        function = getattr(read.within.get(node), "name", "")
        for text in dict.fromkeys(said):
            yield Sentence(module, node.lineno, function, text)


def _prints(call: ast.Call) -> bool:
    to = [ast.unparse(one.value) for one in call.keywords if one.arg == "file"]
    return bool(call.args) and (to == ["sys.stderr"] or _name(call.func) in SPEAKERS)


def _is_made_elsewhere(error: ast.Call) -> bool:
    """Whether another module's function makes it, whose sentence is read there."""
    return isinstance(error.func, ast.Attribute) and _name(error.func).islower()


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


class Reader:
    """The texts that expressions of a module can become."""

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.within: dict[ast.AST, ast.AST] = {}  # of each node the function around it
        self.given: dict[tuple[ast.AST, str], list[ast.expr]] = {}  # to a variable of a function
        self.added: dict[tuple[ast.AST, str], list[ast.expr]] = {}
        self.returned: dict[str, list[ast.expr]] = {}  # by a function of this name
        self.said: list[ast.Call | ast.Name] = []  # errors, and what prints one
        left = [(tree, tree)]
        while left:
            node, around = left.pop()
            self.within[node] = around
            inner = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else around
            left += [(child, inner) for child in ast.iter_child_nodes(node)][::-1]
            match node:
                case ast.Raise(exc=ast.Call() as error) if not _is_made_elsewhere(error):
                    self.said.append(error)
                case ast.Raise(exc=ast.Name(id=name) as error) if ERROR.search(name):
                    self.said.append(error)
                case ast.Call() if ERROR.search(_name(node.func)) or _prints(node):
                    self.said.append(node)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._note(self.given, around, name, value)
                case ast.AugAssign(target=ast.Name(id=name), value=value):
                    self._note(self.added, around, name, value)
                case ast.Return(value=ast.expr() as value) if not _is_none(value):
                    self.returned.setdefault(getattr(around, "name", ""), []).append(value)

    @staticmethod
    def _note(where: dict, scope: ast.AST, name: str, value: ast.expr) -> None:
        if not any(_name(part) == name for part in ast.walk(value)):  # not made of itself
            where.setdefault((scope, name), []).append(value)

    def error(self, call: ast.Call, deep: int = 0) -> list[str]:
        """The sentences of an error; of a function that makes one, those that it can make."""
        name = _name(call.func)
        if name in self.returned and deep < 3:
            made = [one for one in self.returned[name] if isinstance(one, ast.Call)]
            return [text for one in made for text in self.error(one, deep + 1)]
        parts = [call.args[k] for k in WHERE.get(name, (0,)) if k < len(call.args)]
        if not parts:
            return [""]
        if name == "UnreadableError":
            return [f"{a} {b}." for a, b in product(*map(self.texts, parts))]
        return self.texts(parts[0])

    def texts(self, node: ast.expr, deep: int = 0) -> list[str]:
        """What an expression can become."""
        value = [f"⟨{ast.unparse(node)[:40]}⟩"]
        if deep > 6:
            return value
        again: Callable = lambda one: self.texts(one, deep + 1)  # noqa: E731
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return [
                    "".join(way) for way in islice(product(*(again(one) for one in parts)), MOST)
                ]
            case ast.FormattedValue(value=one):
                return again(one)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                both = product(again(left), again(right))
                return ["".join(way) for way in islice(both, MOST)]
            case ast.IfExp(body=one, orelse=other):
                return [text for way in (one, other) if not _is_none(way) for text in again(way)]
            case ast.Call(func=ast.Attribute(value=inner, attr="format")):
                return [re.sub(r"\{[^}]*\}", "⟨value⟩", text) for text in again(inner)]
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(ast.Name(id="self"), name)) if (
                name in self.returned and name not in IN_WORDS
            ):
                return [text for one in self.returned[name] for text in again(one)]
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name.isupper():
                text = getattr(getattr(mbm_lab, module, None), name, None)
                return [text] if isinstance(text, str) else value
            case ast.Name(id=name):
                return self._assigned(name, node, again) or value
        return value

    def _assigned(self, name: str, node: ast.expr, again: Callable) -> list[str]:
        """The texts that a variable can hold, if it was given texts."""
        for scope in (self.within.get(node, self.tree), self.tree):
            found = [text for one in self.given.get((scope, name), ()) for text in again(one)]
            added = [text for one in self.added.get((scope, name), ()) for text in again(one)]
            if found:
                return found + [a + b for a, b in product(found, added)]
        return []


# Which sentences need no value, or no cure, and why

NO_VALUE = {
    "something was not given, or is not there, so there is no value": (
        "--learners, --hub and --stick go with", "--out names the picture", "HTTPS needs both",
        "A DataLoader brings its own", "An analysis needs", "Each batch of the DataLoader",
        "Early stopping needs", "Name the address", "No exercise is solved", "No gradient",
        "Pass the targets", "Say what to learn", "The folder in which you are is not",
        "The validation DataLoader gives no batch", "There is nothing to train on: no batch",
        "To resume, say", "one_cycle needs to know", "--double goes with", "Nothing says where",
    ),
    "the sentence itself says the value: it is empty, 0, silent, or the only one": (
        "A batch holds a single example", "Cannot pad an empty sequence", "LBFGS wants",
        "No port from 8888", "The model is in training mode", "The name of your folder is empty",
        "The query is empty", "The state holds no sentence", "The text is empty",
        "There are no sounds", "error_rates counts", "pace hears", "teacher_forcing got no",
        "The recording is silent", "This is no model of a table",
        "This is the only picture", "α and β are both 0",
    ),
    "it names the program, or the file, that is missing": (
        "Speech needs the program", "The faults are planted by",
        "This needs Chromium", "This needs Playwright", "Writing the voices needs",
        "The package keras is",
        "the file contents.json",
    ),
    "a secret, or a name that somebody else has, is not said again": (
        "Nobody has this name", "These were two different", "This is not the code",
        "This is not the password", "This is not the room's code", "This name is",
        "Too many wrong tries",
    ),
    "what a stranger's program sends to a poll is not sent back": (
        "A JSON object", "Choose what to show", "Content-Length is not", "Join first",
        "Only the poll's own", "Say beforehand", "Say which round", "Send JSON",
        "Send the code", "The answers are on the wall", "The request", "There is nothing at",
        "This address wants", "This is no request", "This is not JSON", "This page is the",
    ),
}  # fmt: skip
"""Beginnings of sentences that name no value, by the reason."""

NO_CURE = {
    "only a program that is no browser is told so: the poll's own pages do right": (
        "A JSON object", "Content-Length is not", "Only the poll's own", "The request",
        "There are two lines", "There is nothing at", "This address wants",
        "This is no request", "This is not JSON", "⟨name⟩ is missing, or not", "⟨name⟩ must lie",
    ),
    "the cure is in the half that another function brings, and a test looks at all of them": (
        "⟨path⟩ ⟨why⟩.", "⟨''.join((c if c.isprintable() else c.enc⟩ holds no rows of text",
    ),
}  # fmt: skip
"""Beginnings of sentences that say nothing to do, by the reason."""

HALVES = {
    "mbm_lab/rows.py:inside": "`rows` tells a file and a line before it, and a full stop behind",
    "mbm_lab/rows.py:_kept_inside": "as `inside`",
    "mbm_lab/scaling.py:main": "an error brings its own words",
    "mbm_lab/albums.py:_well": "a Problem brings its own words",
    "mbm_lab/albums.py:_loaded": "a Problem brings its own words",
    "mbm_lab/albums.py:load_flickr8k": "a Problem brings its own words",
    "mbm_lab/downloads.py:write": "`_fetch` catches it",
    "mbm_lab/identity.py:to_cpu": "`outputs` and `losses` catch it",
    "mbm_lab/lab.py:start": "a Finding of `doctor` brings its own words",
    "mbm_lab/postcards/files.py:_cast": "`read_cards` catches it",
    "mbm_lab/rows.py:_once": "`name_twice` catches it",
    "mbm_lab/spoilt.py:given_up": "an error of `arguments`, and which weights the model has",
    "mbm_lab/room.py:_no_constant": "`parsed` catches it",
    "mbm_lab/exercises/running.py:write": "Python's own words, for it stands in for `sys.stdout`",
    "workshop/accounts.py:authenticate": "passes on what the door says",
    "workshop/stick.py:main": "passes on an error's sentence",
    "workshop/seats.py:enter": "an OSError of the system, told with its number",
    "workshop/seats.py:_mount": "an OSError of the system, told with its number",
    "mbm_lab/__main__.py:_warn": "passes on a sentence",
    "workshop/rehearse.py:*": "told in the table of a rehearsal: what a make-believe learner met",
    "mbm_lab/__main__.py:main": "passes on an error's sentence",
}
"""Functions (`*`: all of a module) that say no whole sentence of the course's, and why."""

MORE_BELOW = (
    "⟨lesson.name⟩: this cell fails", "⟨name⟩: this cell shows", "A fragment continues",
    "A slide needs a title", "Sphinx finds a mistake", "The hub did not start", "uv finds no",
)  # fmt: skip
"""Sentences for authors and instructors, below which the lines stand that are meant."""


def faults(said: Sentence) -> list[str]:
    """What a sentence lacks."""
    lacks, text = [], said.text
    if text.startswith(MORE_BELOW):
        text = text.partition("\n")[0]
    text = re.sub("⟨[^⟩]*⟩(?= [A-Z])", "X.", text)  # a value that is a sentence
    bare = re.sub("⟨[^⟩]*⟩", "X", text)
    if "⟨" not in said.text and not _allowed(said, NO_VALUE):
        lacks.append("value")
    if not CURE.search(bare) and not _allowed(said, NO_CURE):
        lacks.append("cure")
    if not bare.endswith((".", "!", "?")):
        lacks.append("full stop")
    if "\n" in bare:
        lacks.append("one line")
    if JARGON.search(bare):
        lacks.append("plain words")
    return lacks


def _allowed(said: Sentence, reasons: dict[str, tuple[str, ...]]) -> bool:
    return any(said.text.startswith(beginnings) for beginnings in reasons.values())


def is_half(said: Sentence) -> bool:
    """Whether it is no sentence, but an error passed on, or a part of what is said."""
    module = said.module
    return f"{module}:{said.function}" in HALVES or f"{module}:*" in HALVES


@cache
def all_sentences() -> list[Sentence]:
    """Those of all modules."""
    return [
        one
        for module in MODULES
        for one in sentences((place.COURSE / module).read_text(encoding="utf-8"), module)
    ]


def test_every_sentence_names_the_value_that_was_wrong_and_what_to_do():
    wrong = [
        f"{one.module}:{one.line} lacks {', '.join(found)}: {one.text}"
        for one in all_sentences()
        if not is_half(one) and (found := faults(one))
    ]
    assert wrong == []


def test_the_sentences_of_the_course_are_found():
    found = all_sentences()
    assert len(found) > 350
    assert len({one.module for one in found}) > 40


def test_no_exception_is_kept_for_a_sentence_that_is_gone():
    texts = [one.text for one in all_sentences()]
    places = {f"{one.module}:{name}" for one in all_sentences() for name in ("*", one.function)}
    kept = [begin for reasons in (NO_VALUE, NO_CURE) for beginnings in reasons.values()
            for begin in beginnings]  # fmt: skip
    assert [one for one in kept if not any(text.startswith(one) for text in texts)] == []
    assert set(HALVES) - places == set()


def test_the_halves_of_sentences_that_are_finished_elsewhere_say_what_to_do():
    read = {
        name: Reader(ast.parse((place.PACKAGE / f"{name}.py").read_text(encoding="utf-8")))
        for name in ("endings", "rows", "albums", "doctor")
    }
    given = {
        "endings": [one for values in read["endings"].returned.values() for one in values],
        "rows": [pair.elts[1] for pair in read["rows"].returned["_other_kind"]
                 if isinstance(pair, ast.Tuple)],
        "albums": [call.args[3] for call in ast.walk(read["albums"].tree)
                   if isinstance(call, ast.Call) and _name(call.func) == "Problem"
                   and len(call.args) == 4],
        "doctor": [one for (scope, name), values in read["doctor"].given.items() for one in values
                   if name == "todo" and getattr(scope, "name", "") == "check_jupyter"],
    }  # fmt: skip
    halves = [f"X: {cure}." for *_, cure in rows._SIGNS]
    for module, ones in given.items():
        texts = [f"X: {text}." for one in ones for text in read[module].texts(one)]
        kept = [text for text in texts if not text.endswith("⟩.")]  # put together when it is said
        assert kept, module
        halves += kept
    assert [text for text in halves if not CURE.search(text)] == []


BAD = {
    'raise ValueError("Something is wrong here.")': ["value", "cure"],
    'raise ValueError(f"r_squared needs two tensors of one shape and got {a} and {b}.")': ["cure"],
    'raise ValueError(f"There is nothing to train on: {what}.")': ["cure"],
    'raise ValueError(f"The name {name} is wrong: choose another")': ["full stop"],
    'raise ValueError(f"{x} is wrong: choose\\nanother.")': ["one line"],
    'raise TypeError(f"{x} is a NoneType: pass a number.")': ["plain words"],
    'raise OSError("Could not read " + str(path) + ".")': ["cure"],
    'raise Refused(400, f"Round {number} is on now.")': ["cure"],
    'def f(x):\n    why = "is bad"\n    raise ValueError(f"{x} {why}.")': ["cure"],
    'def f(x):\n    return ValueError(f"{x} is bad.")\nraise f(1)': ["cure"],
    'def f(x):\n    return f"{x} is bad"\nraise ValueError(f"{f(1)}.")': ["cure"],
    'raise ValueError(f"{x} is bad: " + ("take another" if x else "bad luck") + ".")': ["cure"],
    'def f(self):\n    return "is bad"\nraise ValueError(f"{x} {self.f()}.")': ["cure"],
    'print(f"{x} is bad.", file=sys.stderr)': ["cure"],
    'error = ValueError(f"{x} is bad.")\nraise error': ["cure"],
    "raise ValueError": ["value", "cure", "full stop"],
    "raise ValueError()": ["value", "cure", "full stop"],
}
"""Planted statements, and what is lacking."""

GOOD = (
    'raise ValueError(f"{x} batches have no length, so give it one, or leave one_cycle out.")',
    'raise ValueError(f"There is no column {name}: did you mean {near}?")',
    'raise ValueError(f"{x} is no number: {cure}." if x else f"{x} is bad: use a number.")',
    'def f(x):\n    cure = "take another"\n    raise ValueError(f"{x} is bad: {cure}.")',
    'raise FileExistsError(f"{path} is already there, and is left as it is: name a new file.")',
    'def kind(x):\n    return "a list"\nraise ValueError(f"x is {kind(x)}: pass a tensor.")',
)


@pytest.mark.parametrize("source", BAD)
def test_a_bad_sentence_is_seen(source):
    found = list(sentences(source, "planted"))
    assert {tuple(lacks) for one in found if (lacks := faults(one))} == {tuple(BAD[source])}


def test_a_good_sentence_is_left_in_peace():
    for source in GOOD:
        found = list(sentences(source, "planted"))
        assert found
        assert faults(found[-1]) == [], source
    assert list(sentences("raise ValueError(str(error))", "planted")) == []  # looked at elsewhere
