"""`mbm-lab doctor --classroom`: every check shows its fault, with something to do about it."""

import json
import os
import re
import socket

import pytest

from mbm_lab import __main__, __version__, classroom, doctor, lab, lessons, place


def only(findings, ok):
    """The one finding with this outcome; if it is a fault or a warning it says what to do."""
    assert [finding.ok for finding in findings] == [ok], findings
    assert findings[0].says
    assert ok or findings[0].todo
    return findings[0]


def test_disk_and_memory_for_a_laptop_and_for_a_server():
    assert "for" not in only(classroom.check_disk(0, 2e9), True).says
    only(classroom.check_disk(0, 5e8), False)
    assert "for 30 learners on this server" in only(classroom.check_disk(30, 2e9), False).says
    only(classroom.check_disk(30, 1e10), True)
    only(classroom.check_memory(0, 4e9), True)
    only(classroom.check_memory(0, 1e9), None)
    only(classroom.check_memory(12, 24e9), True)
    found = only(classroom.check_memory(30, 16e9), False)
    assert found.todo.startswith("23 learners fit")
    assert only(classroom.check_memory(1, 1e9), False).todo.startswith("0 learners fit")


def test_memory_is_asked_for_as_the_rehearsal_has_measured_it():
    text = (place.COURSE / "workshop" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) GB \| \d+ s \|", text, re.MULTILINE)
    assert [int(learners) for learners, _ in rows] == [12, 30, 100]
    for learners, measured in rows:
        asked = classroom.SERVER_GB + int(learners) * classroom.LEARNER_GB
        assert float(measured) - 0.5 <= asked <= 1.1 * float(measured) + 0.5


def test_a_missing_or_empty_model_is_named_with_its_lesson(tmp_path):
    only(classroom.check_models(), True)
    says = only(classroom.check_models(tmp_path), False).says
    assert says == "image_reader_0.safetensors is missing, which lesson 00 loads"
    for names in classroom.MODELS.values():
        for name in names:
            for seed in range(3):
                (tmp_path / f"{name}_{seed}.safetensors").write_text("x")
    only(classroom.check_models(tmp_path), True)
    (tmp_path / "summariser_2.safetensors").write_text("")
    assert "summariser_2" in only(classroom.check_models(tmp_path), False).says


def test_every_lesson_says_which_models_it_loads():
    assert list(classroom.MODELS) == [path.stem[:2] for path in lessons.course_lessons()]


def test_a_browser_is_found_or_not():
    only(classroom.check_browser(lambda name: None), False)
    found = only(classroom.check_browser(lambda name: "/x" if name == "firefox" else None), True)
    assert "firefox" in found.says


def test_a_port_in_use_is_named():
    only(classroom.check_ports(lambda port: True), True)
    assert "8000 is in use" in only(classroom.check_ports(lambda port: port != 8000), None).says
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not lab.is_free(server.getsockname()[1])


def test_views_that_are_missing_old_or_incomplete(tmp_path):
    notebooks, views = tmp_path / "notebooks", tmp_path / "views"
    for folder in (notebooks, views / "site"):
        folder.mkdir(parents=True)
    for name in ("00_one", "01_two"):
        (notebooks / f"{name}.ipynb").write_text("{}")
        os.utime(notebooks / f"{name}.ipynb", (1000, 1000))
    assert "not built" in only(classroom.check_views(views, notebooks), None).says
    page, other = (views / "site" / f"{name}.html" for name in ("00_one", "01_two"))
    page.write_text("")
    assert only(classroom.check_views(views, notebooks), None).says == "without lesson 01"
    other.write_text("")
    only(classroom.check_views(views, notebooks), True)
    os.utime(page, (900, 900))
    assert only(classroom.check_views(views, notebooks), None).says == "older than lesson 00, 01"


def test_the_network_is_noted_and_neither_is_a_fault():
    assert "192.168.1.5" in only(classroom.check_network("192.168.1.5"), True).says
    assert only(classroom.check_network(None), True).says.startswith("none")
    assert lab.own_address() is None or lab.own_address().count(".") == 3


def test_a_stick_that_is_missing_cut_or_old(tmp_path):
    assert "no complete stick" in only(classroom.check_stick(tmp_path), False).says
    contents = {"course": __version__, "targets": {"x/3.12": []}, "files": {"install.py": 3}}
    (tmp_path / "contents.json").write_text(json.dumps(contents))
    says = only(classroom.check_stick(tmp_path), False).says
    assert says == "install.py is missing or was not copied whole (1 of 1 files)"
    (tmp_path / "install.py").write_text("xy")
    only(classroom.check_stick(tmp_path), False)
    (tmp_path / "install.py").write_text("xyz")
    assert "x/3.12" in only(classroom.check_stick(tmp_path), True).says
    (tmp_path / "contents.json").write_text(json.dumps({**contents, "course": "0.0.1"}))
    assert "0.0.1" in only(classroom.check_stick(tmp_path), None).says
    for damaged in ("{", "[]", '{"files": 3}'):
        (tmp_path / "contents.json").write_text(damaged)
        only(classroom.check_stick(tmp_path), False)


def test_the_command_makes_both_kinds_of_checks(monkeypatch, capsys, tmp_path):
    usual = [doctor.Finding("Python", True, "3.12"), doctor.Finding("memory", None, "low", "x")]
    monkeypatch.setattr(doctor, "examine", lambda: usual)
    monkeypatch.setattr(
        classroom, "check_memory", lambda seats: [doctor.Finding("m", True, f"{seats}")]
    )
    assert __main__.main(["doctor", "--classroom", "--learners", "7", "--hub"]) == 0
    said = capsys.readouterr().out
    assert "Python: 3.12" in said
    assert "m: 7" in said
    assert "memory: low" not in said
    assert __main__.main(["doctor", "--classroom", "--stick", str(tmp_path)]) == 1
    assert "m: 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--learners", "3"], "go with --classroom"),
        (["--hub"], "go with --classroom"),
        (["--classroom", "--learners", "0"], "at least one learner"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(capsys, words, sentence):
    assert __main__.main(["doctor", *words]) == 2
    assert sentence in capsys.readouterr().err
