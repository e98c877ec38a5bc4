"""Faults in what the command line is given, and in the small files that the course keeps."""

import contextlib
import io
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nbformat

from mbm_lab import copies, doctor, lab, lessons, place
from mbm_lab.exercises import progress, sharing
from tests.faults import Fault, Said, command, flipped, put


def faults(seed: int) -> Iterator[Fault]:
    yield from _arguments()
    yield from _places()
    yield from _servers()
    yield from _jupyter()
    yield from _progress(seed)
    yield from _shared(seed)
    yield from _notebooks(seed)
    yield from _surroundings()


# --- The command line

USAGE = "usage"
"""What `run` gives when argparse says how a command is used, and what was wrong."""


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    """A user whose folders are all in this one, and whom nobody can ask."""
    before, here, keyboard = dict(os.environ), os.getcwd(), sys.stdin
    os.environ |= {"MBM_PROGRESS": str(folder / "progress.json"), "MBM_DATA_HOME": str(folder)}
    os.chdir(folder)
    sys.stdin = io.StringIO("")
    try:
        yield
    finally:
        sys.stdin = keyboard
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def run(*arguments: str) -> Callable[[Path], str]:
    """What a user does who gives a command in a folder."""

    def act(folder: Path) -> str:
        with _in(folder):
            try:
                return command(*arguments)
            except Said as said:
                if str(said).startswith("usage: mbm-lab") and ": error: " in str(said):
                    return USAGE
                raise

    return act


def _refused(kind: str, *arguments: str, names: tuple[str, ...] = (), plant=None) -> Fault:
    words = " ".join(ascii(one)[1:-1][:40] for one in arguments)
    return Fault(kind, f"mbm-lab {words}", run(*arguments), names, plant,
                 right=lambda said: said == USAGE)  # fmt: skip


def _arguments() -> Iterator[Fault]:
    kind = "arguments of commands"
    for arguments in (
        ["no-such-command"], ["doctor", "--no-such"], ["data"], ["data", "no-such"], ["bench", "x"],
        ["lab", "--port", "abc"], ["lab", "--port", "1.5"], ["lab", "--port", ""],
        ["lab", "a", "b"], ["poll", "--port"], ["postcards"], ["train"], ["predict", "x"],
        ["doctor", "--learners", "many"], ["lessons", "--fresh"], ["exercises", "--record"],
        ["lessons", "--fresh", "04", "--merge", "05"], ["exercises", "--summary"],
        ["exercises", "--reset", "--export", "a.json"], ["data", "check"], ["data", "get"],
    ):  # fmt: skip
        yield _refused(kind, *arguments)
    for number in ("99", "-1", "x" * 5000, "four", "04.5", "", " ", "a\nb", "\udcff", "4;5"):
        for option in ("--fresh", "--merge"):
            yield _refused(kind, "lessons", f"{option}={number}", names=("lesson",))
        yield _refused(kind, "weights", number, names=("esson",))
    for number in ("15", "x", ""):
        yield _refused(kind, "lessons", "--refresh", number, names=("lesson",))
    for name in ("", "mnis", "MNIST", "x" * 5000, "a\nb", "\udcff", "../mnist", "a\0b"):
        yield _refused(kind, "data", "path", name, names=("mnist",))
        yield _refused(kind, "data", "get", name, names=("mnist",))
    for arguments in (
        ["doctor", "--learners", "3"], ["doctor", "--hub"], ["doctor", "--stick", "x"],
        ["doctor", "--classroom", "--learners", "0"], ["doctor", "--classroom", "--learners=-5"],
        ["exercises", "--out", "a.png"],
    ):  # fmt: skip
        yield _refused(kind, *arguments, names=("--",))
    for encoder in ("", "image", "image=", "=x", "smell=x", "image=no such", "x" * 5000, "a\nb=c"):
        yield _refused(kind, "train", ".", "--target", "a", f"--encoder={encoder}")


def _places() -> Iterator[Fault]:
    """Files where folders are meant, folders where files are, and names that are none."""
    kind = "places of commands"

    def plant(folder: Path) -> None:
        (folder / "empty").mkdir()
        (folder / "dead").symlink_to("nowhere")
        (folder / "loop").symlink_to("loop")
        os.mkfifo(folder / "pipe")

    odd = ("", "a\0b", "x" * 5000, "notes.txt/x", "loop/x", "pipe/x")
    for value in odd:
        for arguments in (
            ["data", "check", value], ["train", value, "--target", "a"],
            ["train", "empty", "--target", "a", "--out", value], ["predict", value, "notes.txt"],
            ["predict", "notes.txt", value], ["predict", "notes.txt", "notes.txt", "--out", value],
            ["exercises", "--record", value], ["exercises", "--summary", value],
            ["postcards", "--out", value], ["playground", "--out", value],
        ):  # fmt: skip
            yield _refused(kind, *arguments, plant=plant)
    for value in odd[1:]:
        yield _refused(kind, "exercises", "--export", value, plant=plant)
    for value in ("notes.txt", "pipe", "dead", "loop", "nowhere", "\udcff", "a\nb", "/dev/null"):
        for arguments in (["data", "check", value], ["train", value, "--target", "a"],
                          ["exercises", "--summary", value], ["predict", value, "notes.txt"],
                          ["predict", "notes.txt", value]):  # fmt: skip
            yield _refused(kind, *arguments, plant=plant)
    for value in ("notes.txt", "empty", "pipe", "dead", "loop", ".", "..", "/dev/null"):
        for arguments in (["exercises", "--export", value], ["exercises", "--record", value],
                          ["predict", "notes.txt", "notes.txt", "--out", value]):  # fmt: skip
            yield _refused(kind, *arguments, plant=plant)
    for value in ("notes.txt", "pipe", "dead", "loop", ".", "/dev/null"):
        yield _refused(kind, "postcards", "--out", value, plant=plant)
    for value in ("empty", ".", ".."):
        yield _refused(kind, "playground", "--out", value, plant=plant)
    for name in ("a\nb.json", "ä 猫.json", "-x.json", "x.json "):
        yield Fault(kind, f"--export into {ascii(name)}, legitimately",
                    run("exercises", f"--export={name}"),
                        right=lambda said: "not tried" in said)  # fmt: skip


# --- Servers


def _servers() -> Iterator[Fault]:
    kind = "ports and addresses"

    def start(port: int | None, ip: str, _: Path) -> object:
        """`mbm-lab lab`, up to where JupyterLab would start."""
        with contextlib.ExitStack() as stack:
            for owner, name in ((copies, "prepare"), (doctor, "examine"), (lab, "_serve")):
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, lambda *_: [])
            stack.callback(lab._on_ctrl_c, lab.signal.default_int_handler)
            stack.enter_context(contextlib.redirect_stdout(said := io.StringIO()))
            lab.start(port, ip, browser=False)
            return said.getvalue()

    def taken(ip: str, folder: Path) -> object:
        with socket.socket(lab.family(ip)) as other:
            other.bind((ip, 0))
            other.listen()
            return start(other.getsockname()[1], ip, folder)

    for port in (0, -1, 65536, 70_000, 10**12):
        yield Fault(kind, f"port {port}", partial(start, port, "127.0.0.1"), (str(port), "--port"))
        for one in ("playground", "poll"):
            yield _refused(kind, one, f"--port={port}", names=(str(port), "--port"))
    for ip in ("127.0.0.1", "::1"):
        yield Fault(kind, f"a port that is taken, {ip}", partial(taken, ip), ("--port",))
    for ip in ("", "192.0.2.7", "999.1.1.1", "no such host", "::g", "2001:db8::7", "x" * 300,
        "a\nb",
               "a\0b", "\udcff", "1.2.3.4:80", "http://localhost", "-1"):  # fmt: skip
        yield Fault(kind, f"address {ascii(ip)[:30]}", partial(start, None, ip),
                    ("--ip", "address"))  # fmt: skip
        yield _refused(kind, "playground", f"--ip={ip}", names=("--ip",))
        yield _refused(kind, "poll", f"--host={ip}", names=("--host",))
    for ip in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "127.1"):
        yield Fault(kind, f"address {ip}, legitimately", partial(start, None, ip),
                    right=lambda said, ip=ip: ("Anybody in your network" in said)
                    == (ip in ("0.0.0.0", "::")))  # fmt: skip


def _jupyter() -> Iterator[Fault]:
    def start(variable: str, value: str, folder: Path) -> object:
        before = dict(os.environ)
        os.environ[variable] = value.replace("HERE", str(folder))
        serve, lab._serve = lab._serve, lambda *_: 0
        try:
            findings = doctor.check_jupyter()
            said = " ".join(f"{one.says}; {one.todo}" for one in findings if one.ok is not True)
            if "JUPYTER_RUNTIME_DIR" in said:
                lab.start(None, browser=False)
            return said
        finally:
            lab._serve = serve
            os.environ.clear()
            os.environ.update(before)

    for value in ("HERE/notes.txt", "HERE/notes.txt/a/b", "/dev/null", "/proc/1/none"):
        yield Fault("Jupyter's folders", f"JUPYTER_RUNTIME_DIR={value}",
                    partial(start, "JUPYTER_RUNTIME_DIR", value),
                        ("JUPYTER_RUNTIME_DIR",))  # fmt: skip
        for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            yield Fault("Jupyter's folders", f"{variable}={value}", partial(start, variable, value),
                        ("JUPYTER_RUNTIME_DIR",), right=lambda said,
                        v=variable: v in said)  # fmt: skip
    yield Fault("Jupyter's folders", "one that is not there yet",
                partial(start, "JUPYTER_RUNTIME_DIR", "HERE/new/runtime"),
                right=lambda said: "RUNTIME" not in said)  # fmt: skip

    def extensions(folder: Path) -> set[str]:
        os.environ["JUPYTER_CONFIG_DIR"] = str(folder)
        try:
            return doctor.disabled_extensions()
        finally:
            del os.environ["JUPYTER_CONFIG_DIR"]

    for what, data in _forms().items():
        yield Fault("Jupyter's folders", f"page_config.json: {what}", extensions, (),
                    _holds("labconfig/page_config.json", data),
                    lambda found: isinstance(found, set))  # fmt: skip


# --- Progress, exported and not

STATES = {
    "04.weighted_sum": {"tries": 3, "solved": True, "solved_on": "2030-01-31"},
    "05.step": {"tries": 1, "mistakes": {"0123456789ab": 2}},
}


def _forms() -> dict[str, bytes]:
    """What a JSON file may hold that the course has not written."""
    texts = {
        "nothing": "", "no JSON": "{", "a list": "[]", "a number": "7", "a text": '"x"',
        "null": "null", "true": "true", "NaN": "NaN", "deep": "[" * 100_000,
        "deep objects": '{"a":' * 100_000, "a number of 10,000 digits": "9" * 10_000,
        "of states that are numbers": '{"04.a": 1}', "of states that are lists": '{"04.a": [1]}',
        "of tries that are texts": '{"04.a": {"tries": "3"}}',
        "of tries below zero": '{"04.a": {"tries": -3}}',
        "of tries without end": '{"04.a": {"tries": Infinity}}',
        "of tries by the googol": '{"04.a": {"tries": 1' + "0" * 100 + "}}",
        "of solved = 1": '{"04.a": {"solved": 1}}',
        "of a day that is none": '{"04.a": {"solved_on": "2030-02-30"}}',
        "of mistakes that are a list": '{"04.a": {"mistakes": [1]}}',
        "nested 900 deep": '{"04.a": {"more": ' + "[" * 900 + "]" * 900 + "}}",
    }  # fmt: skip
    data = {what: text.encode() for what, text in texts.items()}
    whole = json.dumps(STATES).encode()
    return data | {
        "UTF-16": whole.decode().encode("utf-16"), "Latin-1": b'{"\xe4": {}}', "zeros": bytes(500),
        "cut": whole[:70], "a pickle": b"\x80\x04K\x01.", "two objects": whole + whole,
    }  # fmt: skip


def _holds(name: str, data: bytes) -> Callable[[Path], None]:
    """Plants one file."""
    return partial(put, files={name: data})


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _progress(seed: int) -> Iterator[Fault]:
    kind, rng, whole = "progress", random.Random(seed), json.dumps(STATES).encode()

    def tried(folder: Path) -> dict:
        with _in(folder):
            progress.record("04.weighted_sum", tried=True)
            return progress.load()

    acts = {"listed": run("exercises"), "counted": tried, "exported": run("exercises", "--export")}
    for at, (what, data) in enumerate(_forms().items()):
        odd = what in ("nested 900 deep",)  # what a newer version may write
        for done, act in list(acts.items()) if not odd else [("listed", acts["listed"])]:
            if done == "listed" or at % 3 == 0:
                yield Fault(kind, f"{what}, {done}", act, ("progress.json",),
                            _holds("progress.json", data),
                            (lambda said: "solved" in said) if odd else None)  # fmt: skip
    yield Fault(kind, "forgotten, of another program", run("exercises", "--reset"), (),
                _holds("progress.json", b"[1]"))  # fmt: skip
    yield Fault(kind, "of a newer version", tried, (),
                _holds("progress.json", b'{"04.weighted_sum": {"tries": 1, "new": [1]}}'),
                lambda states: states["04.weighted_sum"] == {"tries": 2, "new": [1]},
                own=("progress.json",))  # fmt: skip
    yield Fault(kind, "with a mark of order", tried, (),
                _holds("progress.json", b"\xef\xbb\xbf" + whole),
                lambda states: states["05.step"] == STATES["05.step"],
                own=("progress.json",))  # fmt: skip
    for number in range(12):
        yield Fault(kind, f"a bit flipped, {number}", run("exercises"), ("progress.json",),
                    _holds("progress.json", flipped(whole, rng.random())),
                    lambda said: "solved" in said)  # fmt: skip
    for what, plant in (
        ("a folder", lambda f: (f / "progress.json").mkdir()),
        ("a pipe", lambda f: os.mkfifo(f / "progress.json")),
        ("a device", lambda f: (f / "progress.json").symlink_to("/dev/zero")),
        ("a loop", lambda f: (f / "progress.json").symlink_to("progress.json")),
    ):  # fmt: skip
        for done, act in acts.items():
            yield Fault(kind, f"{what}, {done}", act, ("progress.json",), plant)

    def named(value: str, folder: Path) -> Path:
        with _in(folder):
            os.environ["MBM_PROGRESS"] = value
            progress.load()
            return progress.path()

    yield Fault(kind, "MBM_PROGRESS=~/p.json", partial(named, "~/no-such-p.json"),
                right=lambda path: path == Path.home() / "no-such-p.json")  # fmt: skip
    for value in ("~nobody-at-all/p.json", "no-such-p.json", "x" * 5000):
        yield Fault(kind, f"MBM_PROGRESS={value[:20]}", partial(named, value), (value[:20],))


def _shared(seed: int) -> Iterator[Fault]:
    kind, rng = "exported progress", random.Random(seed)
    state = {"04.weighted_sum": {"tries": 3, "solved": True}}
    whole = json.dumps({"kind": sharing.KIND, "form": 1, "course": "1", "number": "0" * 16,
                        "exercises": state}).encode()  # fmt: skip

    def both(plant: Callable[[Path], object], folder: Path) -> None:
        (folder / "room").mkdir()
        put(folder, {"room/whole.json": whole.replace(b'"0000', b'"1000')})
        plant(folder / "room" / "one.json")

    forms = _forms() | {
        "of a newer form": whole.replace(b'"form": 1', b'"form": 2'),
        "of tries that are true": whole.replace(b"3", b"true"),
        "one's own progress": json.dumps(STATES).encode(), "large": b" " * 300_000,
        "of another number": whole.replace(b'"0000', b'"../0'),
    }  # fmt: skip
    plants = {what: lambda path, data=data: path.write_bytes(data) for what, data in forms.items()}
    plants |= {
        "a pipe": os.mkfifo, "a dead link": lambda path: path.symlink_to("none"),
        "a device": lambda path: path.symlink_to("/dev/zero"), "a folder": Path.mkdir,
        "there twice": lambda path: path.write_bytes(whole.replace(b'"0000', b'"1000')),
    }  # fmt: skip
    for number in range(12):
        plants[f"a bit flipped, {number}"] = partial(_write, flipped(whole, rng.random()))
    for what, plant in plants.items():
        yield Fault(kind, what, run("exercises", "--summary", "room"), (), partial(both, plant),
                    lambda said, what=what: ("one.json" in said or "folder" in said
                    or what == "a folder" or "flipped" in what)
                    and said[0] in "12" and "Traceback" not in said)  # fmt: skip
    for name in ("room.jpg", "no/where.png", "notes.txt", "room", "x" * 400 + ".png", ""):
        yield Fault(kind, f"--out {name[:20]!r}", run("exercises", "--summary", "room", "--out",
            name),
                    (), partial(both, lambda path: None),
                    (lambda said: True) if not name else None)  # fmt: skip


# --- Notebooks


def _notebook(*sources: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_markdown_cell("# 04 · Fusion"),
             *(nbformat.v4.new_code_cell(one) for one in sources)]  # fmt: skip
    for at, cell in enumerate(cells):
        cell["id"] = f"cell-{at}"
    return nbformat.v4.new_notebook(cells=cells)


def _notebooks(seed: int) -> Iterator[Fault]:
    kind, rng = "learners' notebooks", random.Random(seed)
    course = _notebook("a = 1", "b = 2", "c = 3")
    whole = nbformat.writes(course).encode()
    plain = json.loads(whole)
    cell = {"cell_type": "code", "source": "x", "metadata": {}, "outputs": [],
            "execution_count": None}  # fmt: skip
    forms = _forms() | {
        what: json.dumps(plain | change).encode()
        for what, change in {
            "of nbformat 5": {"nbformat": 5}, "of nbformat 2": {"nbformat": 2},
            "of nbformat 0": {"nbformat": 0}, "of nbformat x": {"nbformat": "x"},
            "of no nbformat": {"nbformat": None}, "of a great minor": {"nbformat_minor": 10**9},
            "of cells that are none": {"cells": None}, "of cells that are a text": {"cells": "x"},
            "of cells that are numbers": {"cells": [1, 2]}, "of an empty cell": {"cells": [{}]},
            "of metadata that are a list": {"metadata": []}, "of no metadata": {"metadata": None},
            "of an odd origin": {"metadata": {"mbm": {"origin": 7}}},
            "of an origin outside": {"metadata": {"mbm": {"origin": "../../x"}}},
            "of an mbm that is a list": {"metadata": {"mbm": [1]}},
            "of a source of numbers": {"cells": [cell | {"source": [1, 2]}]},
            "of a source of lines": {"cells": [cell | {"source": ["x\n", "y"]}]},
            "of an odd kind of cell": {"cells": [cell | {"cell_type": "smell"}]},
            "of outputs that are a text": {"cells": [cell | {"outputs": "x"}]},
            "of an odd output": {"cells": [cell | {"outputs": [{"output_type": 7}]}]},
            "of half a character": {"cells": [cell | {"source": "\ud83d"}]},
            "of no cells": {"cells": []},
        }.items()
    }  # fmt: skip
    deep = whole.replace(b'"metadata": {}', b'"metadata": {"a": ' + b"[" * 800 + b"]" * 800 + b"}")
    old = nbformat.v3.new_notebook(worksheets=[nbformat.v3.new_worksheet(
        cells=[nbformat.v3.new_code_cell(input="x")])])  # fmt: skip
    forms |= {"deep metadata": deep, "of nbformat 3": nbformat.v3.writes_json(old).encode(),
              "cut in the middle": whole[: len(whole) // 2]}  # fmt: skip
    plants = {what: lambda path, data=data: path.write_bytes(data) for what, data in forms.items()}
    plants |= {"a folder": Path.mkdir, "a pipe": os.mkfifo,
               "a dead link": lambda path: path.symlink_to("none"),
               "a loop": lambda path: path.symlink_to(path.name),
               "a device": lambda path: path.symlink_to("/dev/zero")}  # fmt: skip
    for number in range(8):
        plants[f"a bit flipped, {number}"] = partial(_write, flipped(whole, rng.random()))

    def planted(plant: Callable[[Path], object], folder: Path) -> None:
        for name in ("course", "mine"):
            (folder / name).mkdir()
        (folder / "course" / "04_fusion.ipynb").write_bytes(whole)
        plant(folder / "mine" / "04_fusion.ipynb")

    words = (copies.NOT_COPIED, copies.SAME, copies.NEWER, copies.DIFFERENT, copies.BOTH,
             copies.UNKNOWN, copies.UNREADABLE)  # fmt: skip

    def state(folder: Path) -> str:
        return copies.state(folder / "course" / "04_fusion.ipynb", folder / "mine")

    def merge(folder: Path) -> object:
        return copies.merge("04", folder / "course", folder / "mine")

    def fresh(folder: Path) -> object:
        return copies.fresh_copy("04", folder / "course", folder / "mine")

    def prepare(folder: Path) -> list[str]:
        return copies.prepare(folder / "course", folder / "mine")

    def kept(made: tuple[Path, Path | None]) -> bool:
        return lessons.read_notebook(made[0]).cells[1].source == "a = 1"

    mine = ("mine/04_fusion.ipynb",)
    for at, (what, plant) in enumerate(plants.items()):
        yield Fault(kind, f"{what}: listed", state, (), partial(planted, plant),
                    lambda said: said in words)  # fmt: skip
        if at % 3 == 0 or not at < len(forms):
            yield Fault(kind, f"{what}: merged", merge, ("04_fusion",), partial(planted, plant),
                        lambda made: made[1] is None)  # fmt: skip
        if at % 3 == 1 or not at < len(forms):
            yield Fault(kind, f"{what}: prepared", prepare, ("04_fusion",), partial(planted, plant),
                        lambda said: bool(said))  # fmt: skip
        if at % 3 == 2 or not at < len(forms):
            yield Fault(kind, f"{what}: made afresh", fresh, ("04_fusion",), partial(planted,
                plant),
                        kept, own=mine)  # fmt: skip


# --- What is around a program


def _surroundings() -> Iterator[Fault]:
    """Programs whose output nobody reads, without a home, or in a folder that has gone."""

    def program(arguments: str, folder: Path) -> str:
        before = {**os.environ, "MBM_DATA_HOME": str(folder), "PYTHONPATH": str(place.COURSE)}
        done = subprocess.run(
            ["sh", "-c", arguments.replace("mbm-lab", f"'{sys.executable}' -m mbm_lab")],
            capture_output=True, text=True, cwd=folder, env=before, timeout=60, errors="replace",
        )  # fmt: skip
        if "Traceback" in done.stderr or done.returncode not in (0, 1, 2):
            return f"{done.returncode}: {done.stderr[-500:]}"
        if done.returncode == 2 and "did not agree" not in done.stderr:
            raise Said(done.stderr.strip())
        return done.stdout + done.stderr

    for arguments, right in (
        ("mbm-lab data list | head -1",
        lambda said: said.startswith("name") and said.count("\n") == 1),
        ("mbm-lab data get mnist <&-", lambda said: "Licence" in said),
        ("mbm-lab data list >&-", lambda said: not said.strip()),
        ("mbm-lab data list > /dev/full", None),
        ("mkdir gone; cd gone; rmdir ../gone; mbm-lab data list", None),
        ("HOME=/nonexistent mbm-lab data list", lambda said: "mnist" in said),
        ("env -u HOME -u MBM_DATA_HOME mbm-lab data list", lambda said: "mnist" in said),
        ("TMPDIR=/nonexistent mbm-lab data list", lambda said: "mnist" in said),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 mbm-lab data check é", None),
        ("MBM_HOME='~nobody-at-all' mbm-lab lessons", None),
    ):  # fmt: skip
        yield Fault("surroundings", arguments, partial(program, arguments), right=right)
