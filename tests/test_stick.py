"""A stick for a room without network: what is on it installs, and what is wrong is one sentence."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from mbm_lab import classroom, doctor, place
from workshop import install, stick

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
SYSTEM = install.this_system()


def make_wheel(folder, name, version, files, commands=""):
    """Writes a package of Python alone; files: {path: text}; commands: lines "name = module:f"."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if commands:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{commands}\n"
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        lines.append(f"{path},sha256={digest.decode()},{len(text.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
    target = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as file:
        for path, text in files.items():
            file.writestr(path, text)
    return target


COURSE = "import other, sys\ndef main():\n    print('lessons in', sys.argv[2], other.WORD)\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stick with a course of two tiny packages, which pip fetches from a folder."""
    root = tmp_path_factory.mktemp("a stick")
    folder, index = root / "stick", root / "index"
    index.mkdir()
    make_wheel(index, "other", "1.0", {"other.py": "WORD = 'hello'\n"})
    stick.prepare(folder)
    make_wheel(
        folder / "wheels", "mbm-lab", "0.1.0", {"mbm_lab.py": COURSE}, "mbm-lab = mbm_lab:main"
    )
    options = ["--no-index", "--find-links", str(index)]
    names = stick.fetch(folder, "linux-x86_64", HERE, ["other==1.0"], "", *options)
    assert names == ["other-1.0-py3-none-any.whl", "mbm_lab-0.1.0-py3-none-any.whl"]
    with pytest.raises(ValueError, match=r"A package cannot be had.*gone==2\.0"):
        stick.fetch(folder, "linux-x86_64", HERE, ["gone==2.0"], "", *options)
    stick.write_contents(folder, {f"{SYSTEM}/{HERE}": names})
    return folder


SHUT = {
    "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9",
    "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PYTHONPATH": "",
}  # fmt: skip
"""An environment in which no program finds the internet."""


def run(stick, *words, **more):
    command = [sys.executable, str(stick / "install.py"), *map(str, words)]
    environment = {**os.environ, **SHUT, **more}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_learner_installs_and_starts_with_one_command_and_without_a_network(made, tmp_path):
    assert [one.ok for one in classroom.check_stick(made)] == [True]
    folder = tmp_path / "my course"
    done = run(made, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"lessons in {folder} hello" in done.stdout
    assert f'"{folder}" ' not in done.stdout.partition("is enough:")[0]
    (folder / ".venv" / "theirs").touch()
    done = run(made, folder)
    assert f"lessons in {folder} hello" in done.stdout
    assert "Making" not in done.stdout, "the second time it only starts"
    assert (folder / ".venv" / "theirs").exists()


def test_an_environment_of_somebody_else_is_left_alone(made, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "theirs").touch()
    done = run(made, tmp_path)
    assert done.returncode == 1
    assert "which this stick has not made: name another folder" in done.stdout
    assert [path.name for path in (tmp_path / ".venv").iterdir()] == ["theirs"]


CONTENTS = {
    "targets": {"linux-x86_64/3.11": ["a.whl"], "linux-x86_64/3.12": [], "windows-amd64/3.12": []},
    "bytes": {SYSTEM: 2_000_000_000},
    "files": {"wheels/a.whl": 3},
}


def trouble(function, *arguments):
    with pytest.raises(install.Trouble) as caught:
        function(*arguments)
    return str(caught.value)


def test_each_fault_of_a_stick_is_one_sentence(tmp_path):
    assert install.wheels_for(CONTENTS, "linux-x86_64", (3, 11)) == ["a.whl"]
    said = trouble(install.wheels_for, CONTENTS, "linux-x86_64", (3, 8))
    assert said.startswith("Python 3.8 is too old for this stick: run install.py with one of")
    assert "3.11, 3.12" in said
    assert "too new" in trouble(install.wheels_for, CONTENTS, "linux-x86_64", (3, 15))
    said = trouble(install.wheels_for, CONTENTS, "darwin-x86_64", (3, 12))
    assert "no packages for this computer (darwin-x86_64), only for linux-x86_64, windows" in said
    said = trouble(install.check_room, CONTENTS, "there", 5e8)
    assert "there has 0.5 GB free, and the course needs 2.0 GB" in said
    install.check_room(CONTENTS, "there", 3e9)
    assert "a.whl is missing" in trouble(install.check_files, tmp_path, CONTENTS, ["a.whl"])
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").write_text("xy")
    assert "not copied whole" in trouble(install.check_files, tmp_path, CONTENTS, ["a.whl"])
    (tmp_path / "wheels" / "a.whl").write_text("xyz")
    install.check_files(tmp_path, CONTENTS, ["a.whl"])
    assert "contents.json" in trouble(install.read_contents, tmp_path)
    (tmp_path / "contents.json").write_text("{half")
    assert "was not copied whole" in trouble(install.read_contents, tmp_path)
    (tmp_path / "file").touch()
    said = trouble(install.make_environment, str(tmp_path / "file" / "mine"))
    assert "cannot be written to" in said


def test_what_a_learner_runs_needs_python_alone():
    source = (place.COURSE / "workshop" / "install.py").read_text(encoding="utf-8")
    imported = {line.split()[1] for line in source.splitlines() if line.startswith("import ")}
    assert imported <= sys.stdlib_module_names
    assert "\nfrom " not in source
    assert install.main(["one", "two"]) == 2


# Making it


def test_a_folder_of_somebody_else_is_left_alone_and_ones_own_is_completed(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(FileExistsError, match="is not empty, and this command has not made"):
        stick.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    half = stick.prepare(tmp_path / "new")
    (half / "contents.json").touch()
    stick.prepare(half)
    assert not (half / "contents.json").exists(), "while it is made, it is not complete"


@pytest.mark.slow
def test_the_course_on_the_stick_is_what_git_has(tmp_path):
    stick.copy_course(tmp_path)
    assert (tmp_path / "notebooks" / "04_fusion.ipynb").read_bytes() == (
        place.COURSE / "notebooks" / "04_fusion.ipynb"
    ).read_bytes()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"mbm_lab", "workshop", "data", "Makefile", "constraints.txt"} <= names
    assert not {".git", ".venv", "my_lessons", "build"} & names


def test_every_system_and_python_is_one_that_the_course_is_made_for():
    assert stick.PYTHONS == ["3.11", "3.12", "3.13", "3.14"]
    newest = doctor.NEWEST_PYTHON
    assert stick.PYTHONS[-1] == f"{newest[0]}.{newest[1]}"
    for name in stick.SYSTEMS:
        assert name == name.lower()
        assert name.count("-") == 1


def test_packages_for_graphics_cards_alone_are_not_on_it(monkeypatch):
    lines = "numpy==2.4.6\nnvidia-cublas==13.1 ; sys_platform == 'linux'\ntriton==3.7\n# end\n"
    asked = []

    def compiled(command, **_):
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0, lines, "")

    monkeypatch.setattr(stick.subprocess, "run", compiled)
    assert stick.locked("windows-amd64", "3.12") == ["numpy==2.4.6"]
    assert "x86_64-pc-windows-msvc" in asked


def test_what_goes_wrong_while_it_is_made_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert stick.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"make stick: {tmp_path} is not empty")


def test_the_contents_name_every_file_and_the_room_it_needs(made):
    contents = json.loads((made / "contents.json").read_text(encoding="utf-8"))
    files = {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file()}
    assert set(contents["files"]) == files - {"contents.json"}
    assert contents["bytes"][SYSTEM] > 100_000_000
    assert "python install.py" in (made / "README.txt").read_text(encoding="utf-8")
