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

from mbm_lab import place
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

SPEAKERS = ("_warn",)
"""What prints its first argument as an error, besides `print(…, file=sys.stderr)`."""

ERROR = re.compile("(?<!NotImplemented)(Error|Refused|Trouble)$")
"""Names of errors."""

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
            said = read.error(node)
        function = getattr(read.within.get(node), "name", "")
        for text in dict.fromkeys(said):
            yield Sentence(module, node.lineno, function, text)


def _prints(call: ast.Call) -> bool:
    to = [ast.unparse(one.value) for one in call.keywords if one.arg == "file"]
    return bool(call.args) and (to == ["sys.stderr"] or _name(call.func) in SPEAKERS)


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
                case ast.Raise(exc=ast.Call() as error):
                    self.said.append(error)
                case ast.Raise(exc=ast.Name(id=name) as error) if ERROR.search(name):
                    self.said.append(error)
                case ast.Call() if ERROR.search(_name(node.func)) or _prints(node):
                    self.said.append(node)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._note(self.given, around, name, value)
                case ast.AugAssign(target=ast.Name(id=name), value=value):
                    self._note(self.added, around, name, value)
                case ast.Return(value=ast.expr() as value):
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
                return [*again(one), *again(other)]
            case ast.Call(func=ast.Attribute(value=inner, attr="format")):
                return [re.sub(r"\{[^}]*\}", "⟨value⟩", text) for text in again(inner)]
            case ast.Call(func=ast.Name(id=name)) if name in self.returned:
                return [text for one in self.returned[name] for text in again(one)]
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
    "something was not given, so there is no value": (
        "--learners, --hub and --stick go with", "--out names the picture", "HTTPS needs both",
        "A DataLoader brings its own", "An analysis needs", "Each batch of the DataLoader",
        "Early stopping needs", "Name the address", "No exercise is solved", "Pass the targets",
        "Say what to learn", "There is nothing to train on: no batch", "To resume, say",
        "one_cycle needs to know",
    ),
    "the sentence itself says the value: it is empty, 0, silent, or the only one": (
        "No port from 8888", "The model is in training mode",
        "The query is empty", "The recording is silent", "This is no model of a table",
        "This is the only picture", "α and β are both 0",
    ),
    "it names the program, or the file, that is missing": (
        "Speech needs the program",
        "This needs Chromium", "This needs Playwright", "Writing the voices needs",
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
}  # fmt: skip
"""Beginnings of sentences that say nothing to do, by the reason."""

HALVES = {
    "mbm_lab/rows.py:inside": "`rows` tells a file and a line before it, and a full stop behind",
    "mbm_lab/rows.py:_kept_inside": "as `inside`",
    "mbm_lab/albums.py:_well": "a Problem brings its own words",
    "mbm_lab/albums.py:load_album": "a Problem brings its own words",
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

TO_MEND: tuple[str, ...] = (
    # B1
    "Lesson ⟨lesson⟩ has no stored models: the",
    "worst compares runs of the same results, i",
    "⟨str(error)⟩",
    # B2
    "A convolution needs pictures (B, C, H, W)",
    "stride must be at least 1 and padding at l",
    "There must be one bias for each of the ⟨le",
    "⟨name⟩: the shapes differ, ⟨tuple(ours.sha",
    "receptive_field needs square kernels and s",
    "occlusion_map needs one image (3, H, W) an",
    "f and g must have one shape, and have ⟨tup",
    "f and g say the same thing (or one of them",
    "WeightedSum fuses one to ⟨len(LETTERS)⟩ mo",
    "A dot product takes two modalities, and go",
    "A vector of ⟨dim⟩ numbers cannot be cut in",
    'This model has no modality "⟨name⟩": it ha',
    "An empty caption has no phrases.",
    "The sizes do not fit: x has ⟨x.shape[-1]⟩",
    "TextEncoder needs tokens of shape (B, T) w",
    "r_squared needs two tensors of one shape a",
    "There is nothing to train on: the ⟨what⟩ a",
    "There is nothing to train on: no batch cam",
    "⟨name⟩ has ⟨len(values)⟩ examples and the",
    "A film needs at least two frames, and this",
    "Films have the shape (N, T, 3, 64, 64), an",
    "beam_search writes for one example at a ti",
    "Every picture needs as many captions as th",
    # C
    'Unknown split ⟨split⟩: MNIST has "train" a',
    'Unknown split ⟨split⟩: the sample has "tra',
    'Unknown split ⟨split⟩: Multi30k has "train',
    "Unknown part ⟨part⟩: postcards have ⟨', '.",
    "⟨file⟩ should be named as 7_theo_12.wav is",
    'There is no data set "⟨name⟩": there are ⟨',
    "⟨name⟩ was not fetched, because you did no",
    '⟨path⟩ has a quote " in the wrong place: ⟨',
    "⟨path⟩ does not have the columns of the po",
    "⟨path⟩ is empty: it should hold a sentence",
    "The text is empty: it should hold at least",
    "Cannot pad an empty sequence: every text n",
    "log_mel needs one channel of at least ⟨n_f",
    "pitch needs at least 50 ms of sound that i",
    "A vocabulary begins with the special words",
    # D
    "There is no folder ⟨folder⟩.",
    "⟨folder⟩ may not be read: its permissions",
    "There is no captions.txt in ⟨folder⟩: it s",
    "⟨folder⟩ needs a folder `images` beside ⟨c",
    "⟨next((folder / name for name in ('images⟩",
    "⟨folder / name⟩ may not be read: its permi",
    '⟨path⟩ must begin with the line "image,cap',
    '⟨path⟩ needs "image" and "caption" in each',
    "⟨path⟩ holds no caption: it should hold on",
    "There is no folder ⟨path.absolute().parent",
    "No exercise is solved yet: a record needs",
    "⟨name⟩ is too large to be exported progres",
    "⟨name⟩ is the file of another program.",
    "⟨name⟩ was written by another version of t",
    "⟨name⟩ is damaged: its counts are not what",
    "There is no exported progress in ⟨folder⟩.",
    "⟨name⟩ is damaged, or no file of exported",
    "⟨path⟩ is empty: it should hold rows.",
    "⟨path⟩ holds no rows of text, it looks lik",
    "⟨path⟩ should begin with a line that names",
    'There is no column "⟨name⟩" in ⟨sheet.file',
    "⟨found[0]⟩ holds no rows below its first l",
    "⟨None⟩ holds no rows below its first line,",
    "There is no table in ⟨folder⟩: it should h",
    "⟨sheet.file⟩ has ⟨len(kept)⟩ whole rows (⟨",
    "⟨sheet.file⟩ has ⟨len(kept)⟩ whole rows, a",
    'The column "⟨column⟩" is no column of numb',
    'Every row has the same ⟨name⟩, "⟨raw[0]⟩":',
    "The target ⟨name⟩ has ⟨len(names)⟩ differe",
    'No value of the column "⟨roles[role]⟩" is',
    "Could not put the report at ⟨place.out⟩: i",
    "⟨str(error).splitlines()[0]⟩",
    'There is no encoder "⟨name⟩": a name is li',
    "An encoder must give one row of numbers fo",
    "An encoder must give numbers, one row of t",
)
"""Beginnings of sentences that still lack something."""


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
        if not is_half(one) and not one.text.startswith(TO_MEND) and (found := faults(one))
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
)


@pytest.mark.parametrize("source", BAD)
def test_a_bad_sentence_is_seen(source):
    found = list(sentences(source, "planted"))
    assert {tuple(lacks) for one in found if (lacks := faults(one))} == {tuple(BAD[source])}


def test_a_good_sentence_is_left_in_peace():
    for source in GOOD:
        found = list(sentences(source, "planted"))
        assert found
        assert all("cure" not in faults(one) for one in found[-1:]), source
