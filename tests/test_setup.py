"""The files that set the course up hold to each other, and `mbm-lab` says what is wrong."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import websocket
import yaml

from mbm_lab import __main__, doctor, lab, lessons, place

REPOSITORY = place.COURSE
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE = REPOSITORY / "mbm_lab"
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}

# The lessons' modules in the order of the lessons, without lesson 00, the preview of them all. One
# imports only those before it.
LESSON_MODULES = [lesson.stem.partition("_")[2] for lesson in lessons.course_lessons()[1:]]
LESSON_MODULES.insert(LESSON_MODULES.index("retrieval") + 1, "questions")  # lesson 07 has two


def requirements(extra=None):
    """The names of the packages that pyproject.toml asks for."""
    listed = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return [doctor.package_name(requirement) for requirement in listed]


def pins():
    """(name, version, marker) of every line of constraints.txt."""
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9.-]+)==([^ ;+]+)(?: ; (.+))?", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return [match.groups() for match in found]


# The files


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_requirement_is_pinned_exactly_once_for_every_system(extra):
    names = [name for name, _, _ in pins()]
    assert len(names) == len(set(names))
    everywhere = {name for name, _, marker in pins() if marker is None}
    assert set(requirements(extra)) <= everywhere


def test_no_version_is_exact_in_pyproject():
    every = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    assert [line for line in every if not re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line)] == []


INSTALLED = [name for extra in (None, "test", "workshop", "hub") for name in requirements(extra)]


@pytest.mark.parametrize("name", INSTALLED)
def test_the_installed_version_is_the_pinned_one(name):
    installed = metadata.version(name).partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
    assert installed == doctor.pinned()[name]


def test_environment_yml_takes_everything_from_the_other_two_files():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "mbm-lab"
    assert environment["channels"][0] == "conda-forge"
    python, pip, from_pip = environment["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["-c constraints.txt", "-e ."]}
    version = re.fullmatch(r"python=(\d+)\.(\d+)", python)
    assert doctor.OLDEST_PYTHON <= (int(version[1]), int(version[2])) <= doctor.NEWEST_PYTHON


def test_everyone_names_the_same_pythons():
    oldest, newest = doctor.OLDEST_PYTHON, doctor.NEWEST_PYTHON
    assert PROJECT["requires-python"] == f">={oldest[0]}.{oldest[1]}"
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert f"{oldest} <= sys.version_info[:2] <= {newest}" in makefile
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/test.yml").read_text("utf-8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == [".".join(map(str, version)) for version in (oldest, newest)]


@pytest.mark.slow
def test_ruff_finds_nothing():
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


# The modules


def place_of(path):
    """The module that a file is, or the folder that it is in: cnn, exercises."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """The whole names of all that a module imports, anywhere in it."""
    folder = path.parent.relative_to(REPOSITORY).parts  # where the dots of an import begin
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) + 1 - node.level] if node.level else ()
            source = [*start, node.module] if node.module else start
            names |= {".".join([*source, alias.name]) for alias in node.names}
    return names


def imports_of(path):
    """The course's modules and folders that a module imports, anywhere in it."""
    names = imported(path)
    places = {name.split(".")[1] for name in names if name.startswith("mbm_lab.")}
    return places & {place_of(module) for module in MODULES.values()}


def test_imports_are_seen_in_every_form_and_in_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "REPOSITORY", tmp_path)
    path = tmp_path / "mbm_lab" / "postcards" / "new.py"
    path.parent.mkdir(parents=True)
    for text in ("import mbm_lab.cnn as c", "from mbm_lab.cnn import f", "from mbm_lab import cnn"):
        path.write_text(f"import os\ndef f():\n    {text}\n")
        assert imports_of(path) == {"cnn"}
    for text in ("from . import cards", "from .cards import draw", "import mbm_lab.postcards"):
        path.write_text(text)
        assert imports_of(path) == {"postcards"}
    for text in ("from .. import cnn", "from ..cnn import f"):
        path.write_text(text)
        assert imports_of(path) == {"cnn"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_no_later_lesson_and_no_widgets(name):
    place, found = place_of(MODULES[name]), imports_of(MODULES[name])
    # the first opens the projector's page, the second measures, the third asks a room
    users = ("__main__", "bench", "poll", "widgets")
    assert "widgets" not in found or place in users
    assert "exercises" not in found or place in ("__main__", "exercises")  # which lists them
    if place in LESSON_MODULES:
        later = LESSON_MODULES[LESSON_MODULES.index(place) + 1 :]
        assert not found & set(later)
        assert "welcome" not in found


def test_no_modules_import_each_other_in_a_circle():
    """Also where an import stands inside a function; only stored.py names modules as texts."""
    needs = {}
    for path in MODULES.values():
        needs.setdefault(place_of(path), set()).update(imports_of(path) - {place_of(path)})
    assert not circles(needs)
    tools = {f"workshop.{path.stem}": path for path in (REPOSITORY / "workshop").glob("*.py")}
    needs = {
        name: {tool for tool in tools if any(f"{one}.".startswith(f"{tool}.") for one in found)}
        for name, found in ((name, imported(path)) for name, path in tools.items())
    }
    assert "workshop.slides" in needs["workshop.views"]
    assert not circles(needs)


def circles(needs):
    """What is left of {name: names that it needs} when all that needs nothing left is taken out."""
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    return needs


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": set(), "c": {"a"}}) == {}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}).keys() == {"a", "b", "c"}


@pytest.mark.slow
def test_every_module_can_be_imported_first_and_in_any_order():
    program = """
import importlib, random, sys, torch, matplotlib.pyplot
names = sys.argv[1:]
def anew(order):
    for name in [name for name in sys.modules if name.split(".")[0] == "mbm_lab"]:
        del sys.modules[name]
    for name in order:
        importlib.import_module(name)
for name in names:
    anew([name])
for seed in range(5):
    anew(random.Random(seed).sample(names, len(names)))
print(len(names))
"""
    names = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES.values()
    ]
    command = [sys.executable, "-c", program, *names]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == f"{len(names)}\n", done.stderr


def test_every_module_says_what_it_is_for():
    for path in MODULES.values():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_every_folder_of_modules_is_installed():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.parent.relative_to(REPOSITORY) for path in MODULES.values()}
    packages = sorted(".".join(folder.parts) for folder in folders)
    course = ["mbm_lab.course.data", "mbm_lab.course.notebooks"]  # as in a wheel
    assert sorted(settings["tool"]["setuptools"]["packages"]) == sorted(packages + course)


# The doctor: each fault is one sentence and something to do


def only(findings, ok):
    """The one finding with this outcome; if it is a fault or a warning it says what to do."""
    found = [finding for finding in findings if finding.ok is ok]
    assert len(found) == 1, findings
    assert found[0].says
    assert ok or found[0].todo
    return found[0]


CONSOLES = """
import contextlib, io, sys
from mbm_lab import __main__

words = [["--help"], ["lessons"], ["exercises"], ["data", "list"], ["data", "check", sys.argv[1]]]
for name in ("lab", "playground", "poll", "doctor", "lessons", "exercises", "bench", "data",
             "weights"):
    words.append([name, "--help"])
for encoding in ("ascii", "cp1252", "gbk"):
    for command in [*words, *([["doctor"]] if encoding == "ascii" else [])]:
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
        with contextlib.suppress(SystemExit):  # argparse, after --help
            __main__.main(command)
        sys.stdout.flush()
        assert len(sys.stdout.buffer.getvalue()) > 60, command
"""


@pytest.mark.slow
def test_a_console_without_our_letters_is_no_error(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "captions.txt").write_text("image,caption\n猫.png,α\n", encoding="utf-8")
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": "."}
    command = [sys.executable, "-c", CONSOLES, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | bare, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    command = [sys.executable, "-m", "mbm_lab", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | bare, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"open ? and ? as a page of its own" in done.stdout


def test_doctor_on_python():
    only(doctor.check_python((3, 11, 0)), True)
    assert "3.10.9" in only(doctor.check_python((3, 10, 9)), False).says
    assert "3.15.0" in only(doctor.check_python((3, 15, 0)), False).says


def missing(name):
    raise metadata.PackageNotFoundError(name)


def test_doctor_on_packages():
    def check(installed=lambda name: "2.1+cpu", broken=lambda names: {}):
        return doctor.check_packages(["torch"], {"torch": "2.1"}, installed, broken)

    only(check(), True)
    assert "is not installed" in only(check(installed=missing), False).says
    says = only(check(broken=lambda names: {"torch": "a part is missing"}), False).says
    assert says == "is installed (2.1+cpu) but does not work (a part is missing)"
    assert "made with 2.1" in only(check(installed=lambda name: "2.0"), None).says


def test_doctor_on_packages_that_others_need():
    needs = {"course-one": ["two"], "two": ["three", "course-one"], "three": []}
    assert doctor.check_needed(["course-one"], needs) == []
    del needs["three"]
    says = only(doctor.check_needed(["course-one"], needs), False).says
    assert says == "is not installed in this Python, and two needs it"
    assert doctor.check_needed(["gone"], needs) == []  # check_packages says that


def install(folder, name, **files):
    """Puts a package of these files into a folder, as pip does."""
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / name).mkdir()
    lines = []
    for file, text in files.items():
        path = folder / name / file.replace("_py", ".py").replace("_so", ".so")
        path.write_text(text)
        lines.append(f"{name}/{path.name},sha256=x,{len(text)}")
    (information / "RECORD").write_text("\n".join(lines))


def test_doctor_finds_packages_that_do_not_work(tmp_path, monkeypatch):
    """Python alone is looked at, compiled parts are loaded, whatever that does."""
    pure = {"__init___py": "raise ValueError('never loaded')", "part_py": "x = 1"}
    install(tmp_path, "mbm_good", **pure)
    install(tmp_path, "mbm_missing", **pure)
    (tmp_path / "mbm_missing" / "part.py").unlink()
    install(tmp_path, "mbm_cut", **pure)
    (tmp_path / "mbm_cut" / "part.py").write_text("")
    install(tmp_path, "mbm_compiled", __init___py="print('loaded')", part_so="")
    install(tmp_path, "mbm_fails", __init___py="raise OSError('no\\nlibrary')", part_so="")
    install(tmp_path, "mbm_ends", __init___py="import os; os._exit(3)", part_so="")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = [f"mbm_{name}" for name in ("good", "missing", "cut", "compiled", "fails", "ends")]
    assert doctor.broken_packages(names) == {
        "mbm_missing": "its file mbm_missing/part.py is missing",
        "mbm_cut": "its file mbm_cut/part.py is not as it was installed",
        "mbm_fails": "OSError: no library",
        "mbm_ends": "Python ends when it is loaded",
    }


def test_doctor_on_the_kernel(tmp_path):
    only(doctor.check_kernel(program="python3.11"), True)
    only(doctor.check_kernel(program=sys.executable), True)
    assert "another Python" in only(doctor.check_kernel(program=str(tmp_path / "gone")), False).says
    assert "no kernel named" in only(doctor.check_kernel("no-such-kernel"), False).says


def test_doctor_on_sliders(tmp_path, monkeypatch):
    only(doctor.check_widgets([str(tmp_path)]), False)
    name = "@jupyter-widgets/jupyterlab-manager"
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "package.json").write_text("{}")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path))
    only(doctor.check_widgets([str(tmp_path)]), True)
    (tmp_path / "labconfig").mkdir()
    config = tmp_path / "labconfig" / "page_config.json"
    for disabled in (f'{{"{name}": true}}', f'["{name}"]'):
        config.write_text(f'{{"disabledExtensions": {disabled}}}')
        assert "switched off" in only(doctor.check_widgets([str(tmp_path)]), False).says
    config.write_text(f'{{"disabledExtensions": {{"{name}": false}}}}')
    only(doctor.check_widgets([str(tmp_path)]), True)


def test_doctor_on_the_data(tmp_path):
    assert "missing" in only(doctor.check_data(tmp_path), False).says
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    (tmp_path / "captions.txt").write_text("image,caption\n1.png,a card\n1.png,the same card\n")
    (tmp_path / "cards.csv").write_text("name\n1\n")
    only(doctor.check_data(tmp_path), True)
    (tmp_path / "images" / "2.png").touch()
    says = only(doctor.check_data(tmp_path), False).says
    assert says == "1 cards, 1 with a caption, 2 pictures: 2.png is not in all three"
    (tmp_path / "images" / "2.png").unlink()
    (tmp_path / "cards.csv").write_text("name\n3\n")
    assert "1.png is not in all three" in only(doctor.check_data(tmp_path), False).says
    (tmp_path / "captions.txt").write_text("picture,caption\n1.png,a card\n")
    assert "cannot be read" in only(doctor.check_data(tmp_path), False).says
    (tmp_path / "captions.txt").write_bytes(b"image,caption\n1.png,\xff\n")
    assert "cannot be read" in only(doctor.check_data(tmp_path), False).says


def test_doctor_on_the_trained_models(tmp_path):
    assert "mbm-lab weights" in only(doctor.check_weights(tmp_path / "gone"), False).todo
    (tmp_path / "cnn.safetensors").touch()
    only(doctor.check_weights(tmp_path), True)


def pytorch(cuda, works=False):
    """A stand-in for torch: made with or without CUDA, and seeing a GPU or not."""
    return SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: works), version=SimpleNamespace(cuda=cuda)
    )


def test_doctor_on_the_device(monkeypatch):
    monkeypatch.setenv("MBM_DEVICE", "cpu")
    only(doctor.check_device(pytorch(None), graphics_card=False), True)
    only(doctor.check_device(pytorch("13.0"), graphics_card=False), True)
    only(doctor.check_device(pytorch("13.0", works=True), graphics_card=True), True)
    assert "without CUDA" in only(doctor.check_device(pytorch(None), True), None).says
    assert "nvidia-smi" in only(doctor.check_device(pytorch("13.0"), True), None).todo
    monkeypatch.setenv("MBM_DEVICE", "toaster")
    assert "toaster" in only(doctor.check_device(pytorch(None), False), False).says


def test_doctor_on_folder_disk_and_memory(tmp_path):
    only(doctor.check_folder(tmp_path), True)
    only(doctor.check_folder(tmp_path / "yet to be made" / "mine"), True)
    (tmp_path / "file").touch()
    assert "cannot be written to" in only(doctor.check_folder(tmp_path / "file"), False).says
    only(doctor.check_disk(5e9), True)
    only(doctor.check_disk(5e8), None)
    only(doctor.check_disk(5e7), False)
    only(doctor.check_memory(5e9), True)
    only(doctor.check_memory(5e8), None)


def test_doctor_survives_a_check_that_fails(monkeypatch):
    def check_moon():
        raise RuntimeError("no moon")

    monkeypatch.setattr(doctor, "CHECKS", [check_moon])
    assert "no moon" in only(doctor.examine(), False).says


def test_doctor_reports_in_words_and_by_exit_status(capsys):
    good = doctor.Finding("Python", True, "3.12")
    warning = doctor.Finding("memory", None, "little", "close something.")
    fault = doctor.Finding("data", False, "gone", "get it again.")
    assert doctor.report([good]) == 0
    assert capsys.readouterr().out == "ok     Python: 3.12\n\nEverything is as it should be.\n"
    assert doctor.report([good, warning]) == 0
    assert "The course runs. 1 thing to look at" in capsys.readouterr().out
    assert doctor.report([good, warning, fault]) == 1
    out = capsys.readouterr().out
    assert "FAULT  data: gone\n       -> get it again.\n" in out
    assert "1 fault to mend" in out


@pytest.mark.slow
def test_doctor_finds_nothing_wrong_here():
    assert [finding for finding in doctor.examine() if finding.ok is False] == []


# The command line


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("The port is taken: name another."), "The port is taken: name another."),
        (FileNotFoundError("There is no such folder."), "There is no such folder."),
        (
            PermissionError(13, "Permission denied", "here"),
            "Permission denied (here): allow yourself to use it, or name another.",
        ),
    ],
)
def test_what_a_user_did_wrong_is_one_sentence(monkeypatch, capsys, error, sentence):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "report", fail)
    assert __main__.main(["doctor"]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"mbm-lab: {sentence}\n"
    assert printed.out == ""


def test_exit_status_of_the_doctor_is_that_of_the_command(monkeypatch):
    monkeypatch.setattr(doctor, "report", lambda: 1)
    assert __main__.main(["doctor"]) == 1


@pytest.mark.parametrize("arguments", [["data"], ["no-such-command"], ["postcards"]])
def test_a_wrong_command_line_is_explained(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        __main__.main(arguments)
    assert stop.value.code == 2
    assert "usage: mbm-lab" in capsys.readouterr().err


def test_the_command_alone_prints_its_help(capsys):
    assert __main__.main([]) == 0
    assert "usage: mbm-lab" in capsys.readouterr().out


def test_the_command_says_its_version(capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"MBM Lab {metadata.version('mbm-lab')}\n"


def test_a_folder_of_data_that_is_not_there_is_one_sentence(capsys, tmp_path):
    assert __main__.main(["data", "check", str(tmp_path / "gone")]) == 2
    said = f"mbm-lab: There is no folder {tmp_path / 'gone'}: check the name.\n"
    assert capsys.readouterr().err == said


def test_starting_the_command_line_imports_neither_pytorch_nor_jupyter():
    code = "import sys, mbm_lab.__main__, mbm_lab.doctor; print(sys.modules.keys() & sys.argv[1:])"
    command = [sys.executable, "-c", code, "torch", "nbformat"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True)
    assert result.stdout.strip() == b"set()"


# JupyterLab


def test_a_port_in_use_is_passed_over_or_named():
    with lab.socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not lab.is_free(port)
        with pytest.raises(ValueError, match=f"Port {port} cannot be used"):
            lab.choose_port(port)
    assert lab.choose_port(None) >= lab.FIRST_PORT


def test_there_is_no_screen_over_ssh_or_on_linux_without_a_display(monkeypatch):
    monkeypatch.setattr(lab.sys, "platform", "linux")
    for name in ("SSH_CONNECTION", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not lab.has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert lab.has_screen()
    monkeypatch.setenv("SSH_CONNECTION", "here there")
    assert not lab.has_screen()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A copy of the course in a path with spaces, with copies of the lessons of its own."""
    root = tmp_path_factory.mktemp("a course") / "mbm lab"
    shutil.copytree(PACKAGE, root / "mbm_lab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("notebooks", "data"):
        (root / name).symlink_to(REPOSITORY / name, target_is_directory=True)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, root)
    return root


def start_lab(root, port):
    """`mbm-lab lab` in a group of its own, as a terminal makes one; where it was not activated."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = os.defpath
    return subprocess.Popen(
        [sys.executable, "-m", "mbm_lab", "lab", "--no-browser", "--port", str(port)],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(server, words):
    """What a program prints, up to these words."""
    said = ""
    for line in server.stdout:
        said += line
        if words in line:
            break
    assert words in said, said
    return said


posix = pytest.mark.skipif(sys.platform == "win32", reason="asks for links and signals")


class Jupyter:
    """A server of Jupyter, spoken to as JupyterLab does."""

    def __init__(self, address):
        self.host, token = re.fullmatch(r"http://(.+?)/.*token=(.+)", address).groups()
        self.token = f"token={token}"

    def post(self, path, **content):
        request = urllib.request.Request(
            f"http://{self.host}/api/{path}?{self.token}",
            data=json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or "{}")

    def listen(self, path):
        address = f"ws://{self.host}/{path}?{self.token}"
        return websocket.create_connection(address, timeout=60)

    def in_terminal(self, command, pattern):
        """The first match of a pattern in what a command prints in a terminal."""
        terminal = self.listen(f"terminals/websocket/{self.post('terminals')['name']}")
        terminal.send(json.dumps(["stdin", command + "\r"]))
        said = ""
        while not (found := re.search(pattern, said)):
            kind, *text = json.loads(terminal.recv())
            said += text[0] if kind == "stdout" else ""
        return found

    def run(self, kernel, code):
        """What code prints in a kernel."""
        channels = self.listen(f"api/kernels/{kernel}/channels")
        header = {"msg_id": code, "msg_type": "execute_request", "session": "", "username": ""}
        header |= {"version": "5.3", "date": "2026-01-01T00:00:00Z"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell"}
        channels.send(json.dumps({**message, "content": {"code": code, "silent": False}}))
        while True:
            answer = json.loads(channels.recv())
            if answer["msg_type"] == "stream" and answer["parent_header"].get("msg_id") == code:
                return answer["content"]["text"]


@pytest.mark.slow
@posix
def test_lab_copies_the_lessons_serves_them_and_ends_politely(root):
    """The whole of `mbm-lab lab`: the page, a terminal in it, a kernel, and the end."""
    server = start_lab(root, lab.choose_port(None))
    try:
        said = read_until(server, "Ctrl+C")
        address = re.search(r"http://\S+/lab/tree/my_lessons/\d\d_\w+.ipynb\S+", said)
        assert address, said
        with urllib.request.urlopen(address[0], timeout=30) as page:
            text = page.read().decode()
        assert "jupyter-config-data" in text
        assert "apputils-extension:announcements" in text  # switched off

        jupyter = Jupyter(address[0])
        found = jupyter.in_terminal("echo at $(command -v mbm-lab).", r"at (/.*mbm-lab)\.")
        assert found[1] == str(Path(sysconfig.get_path("scripts")) / "mbm-lab")
        kernel = jupyter.post("kernels", name="python3")["id"]
        assert jupyter.run(kernel, "print(6 * 7)") == "42\n"
        jupyter.post(f"kernels/{kernel}/restart")
        assert jupyter.run(kernel, "print(7 * 8)") == "56\n"
    finally:
        server.terminate()
        rest = server.communicate(timeout=60)[0]
    said = [line for line in rest.splitlines() if line and "received signal" not in line]
    mine = root / "my_lessons"
    assert said == [f"JupyterLab has ended. Your lessons are in {mine}."]  # and no warning
    assert server.returncode == 0
    copied = {path.name for path in (root / "my_lessons").glob("*.ipynb")}
    assert copied >= {path.name for path in lessons.course_lessons()}


@pytest.mark.slow
@posix
@pytest.mark.parametrize(
    ("after", "seconds"),
    [("", 0), ("", 1), ("", 3), ("lessons", 0), ("lessons", 1), ("lessons", 2)]
    + [("Starting", 0), ("Starting", 0.5), ("Starting", 2), ("Ctrl", 0)],
)
def test_ctrl_c_ends_lab_at_any_moment_without_a_traceback(root, after, seconds):
    server = start_lab(root, lab.choose_port(None))
    said = ""
    if after:
        said += read_until(server, after)
    time.sleep(seconds if after else 0.3 + seconds)  # Python itself must have started
    os.killpg(server.pid, signal.SIGINT)
    said += server.communicate(timeout=60)[0]
    assert "Traceback" not in said, said
    assert "Error" not in said, said
    assert re.search("mbm-lab: stopped|JupyterLab has ended", said), said
