"""Exported progress: what is in it, what is not, and a folder of such files summed up."""

import json
import re

import pytest
from PIL import Image

from mbm_lab import exercises
from mbm_lab.__main__ import main
from mbm_lab.exercises import progress, sharing
from mbm_lab.exercises.exercise import Choice

EVERY = exercises.in_order()
SUM, HARD = EVERY["04.1"], EVERY["04.3"]
CHOICE = next(one for one in EVERY.values() if isinstance(one, Choice))


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MBM_PROGRESS", str(tmp_path / "mine" / "progress.json"))
    monkeypatch.chdir(tmp_path)


def test_a_check_remembers_the_mistake_that_it_named_and_the_day(said):
    first, second = list(SUM.mistakes.items())[:2]
    for _, wrong in (first, first, second):
        said(SUM, wrong)
    said(SUM, lambda f, g, alpha, beta: f * f + 3)  # wrong, and in no catalogue
    said(SUM, SUM.solution_function)
    letter, sentence = next(iter(CHOICE.wrong.items()))
    said(CHOICE, letter)
    states = progress.load()
    day = states[SUM.key].pop("solved_on")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    key = progress.mistake_key
    counts = {key(first[0]): 2, key(second[0]): 1}
    assert states[SUM.key] == {"tries": 5, "solved": True, "mistakes": counts}
    assert states[CHOICE.key] == {"tries": 1, "mistakes": {key(sentence): 1}}


def test_the_first_day_of_solving_stays_and_old_files_have_none(said):
    progress.record(SUM.key, tried=True, solved=True)
    states = progress.load()
    states[SUM.key]["solved_on"] = "2020-02-29"
    states[HARD.key] = {"tries": 1, "solved": True}  # as it was written before days were kept
    progress.path().write_text(json.dumps(states))
    for one in (SUM, HARD):
        said(one, one.solution_function)
    assert progress.load()[SUM.key]["solved_on"] == "2020-02-29"
    assert "solved_on" not in progress.load()[HARD.key]


@pytest.mark.parametrize(
    "state",
    [
        {"mistakes": ["x"]}, {"mistakes": {"x": 0}}, {"mistakes": {"x": "2"}},
        {"mistakes": {"x": True}}, {"solved_on": 3}, {"solved_on": "yesterday"},
        {"solved_on": "2020-13-01"}, {"solved_on": "20200101"},
    ],
)  # fmt: skip
def test_progress_that_the_course_did_not_write_is_refused(state):
    progress.path().parent.mkdir()
    progress.path().write_text(json.dumps({SUM.key: state}))
    with pytest.raises(ValueError, match="damaged, or the file of another program"):
        progress.load()


def test_keys_of_mistakes_tell_all_sentences_of_an_exercise_apart():
    for one in EVERY.values():
        assert len(set(map(progress.mistake_key, one.catalogue()))) == len(one.catalogue()) > 0


# The learner's file


def test_an_export_holds_counts_and_nothing_else(capsys, tmp_path, said):
    sentence, wrong = next(iter(SUM.mistakes.items()))
    said(SUM, wrong)
    said(SUM, SUM.solution_function)
    states = progress.load()
    states["my name is Ada"] = {"tries": 1}
    states[SUM.key]["note"] = "/home/ada"
    states[SUM.key]["mistakes"]["another"] = 1
    progress.path().write_text(json.dumps(states))
    assert main(["exercises", "--export", "one.json"]) == 0
    words = capsys.readouterr().out
    assert "04.1  The weighted sum: solved (tries: 2)" in words
    assert f"said once: {sentence}" in words
    assert "no name, no path, no time" in words
    text = (tmp_path / "one.json").read_text()
    content = json.loads(text)
    counts = {progress.mistake_key(sentence): 1}
    assert content["exercises"] == {SUM.key: {"tries": 2, "solved": True, "mistakes": counts}}
    assert set(content) == {"kind", "form", "course", "number", "exercises"}
    assert not re.search(r"ada|\d{4}-\d\d-\d\d|/", text)
    assert content["number"] in words


def test_an_export_overwrites_nothing_and_finds_a_name_of_its_own(capsys, tmp_path):
    (tmp_path / "there.json").write_text("mine")
    assert main(["exercises", "--export", "there.json"]) == 2
    assert "already there, and is left as it is" in capsys.readouterr().err
    assert (tmp_path / "there.json").read_text() == "mine"
    assert main(["exercises", "--export"]) == 0
    assert main(["exercises", "--export"]) == 0
    assert "You have not tried an exercise yet." in capsys.readouterr().out
    names = [path.name for path in tmp_path.glob("mbm-progress-*.json")]
    assert len(names) == len(set(names)) == 2


# The instructor's summary


def shared(folder, name, states, **changes):
    """Writes an exported file."""
    content = {"kind": sharing.KIND, "form": 1, "course": "0", "number": f"{name:x}".zfill(16)}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**content, "exercises": states, **changes}))
    return path


@pytest.fixture
def room(tmp_path):
    """Twelve learners: all solved 04.1, and three of ten solved 04.3."""
    folder = tmp_path / "room"
    folder.mkdir()
    sentences = list(map(progress.mistake_key, HARD.catalogue()))
    for name in range(12):
        states = {SUM.key: {"tries": 1, "solved": True}}
        if name < 10:
            states[HARD.key] = {"tries": 4, "mistakes": {sentences[name % 3]: 1, sentences[1]: 2}}
        if name < 3:
            states[HARD.key]["solved"] = True
        shared(folder, name, states)
    return folder


def test_a_room_is_summed_up(room, capsys):
    assert main(["exercises", "--summary", str(room), "--out", "room.png"]) == 0
    words = capsys.readouterr().out
    assert words.startswith("12 learners.\n")
    title = HARD.title
    assert f"Most were stopped by 04.3 {title}: 7 of 10 who tried it did not solve it." in words
    assert f"in 04.3, by 10 of 12: {HARD.catalogue()[1]}" in words
    assert re.search(r"04\.1 +The weighted sum +12 +12 +0\n", words)
    assert re.search(rf"04\.3 +{re.escape(title)} +10 +3 +7\n", words)
    assert "05.1" not in words
    assert f"04.3 {title}: 3 solved it, 7 tried and did not" in words.partition("in words")[2]
    with Image.open("room.png") as picture:
        assert picture.size == (1600, 900)
    assert main(["exercises", "--summary", str(room), "--out", "room.png"]) == 2
    assert "already there" in capsys.readouterr().err


def test_the_picture_shows_what_was_counted(room):
    summed = sharing.summary(room)
    rows = [row for row in summed.rows if row.tried]
    (axes,) = sharing._bars(summed, rows).axes
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers]
    assert widths == [[12, 3], [0, 7]]
    assert [text.get_text() for text in axes.texts] == ["7"]
    assert min(label.get_fontsize() for label in axes.get_yticklabels()) >= 18


def test_files_that_cannot_be_used_get_a_sentence_each_and_count_nothing(room, tmp_path):
    good = sharing.table(sharing.summary(room))
    states = {SUM.key: {"tries": 1}}
    inside = room / "from a mail"
    inside.mkdir()
    (inside / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (room / "a.json").write_text("{half")
    (room / "b.json").write_text('{"name": "x"}')
    (room / "c.json").write_text(json.dumps(states))
    (room / "d.json").write_text("[" * 100_000)
    (room / "e.json").write_text("x" * 300_000)
    (room / "f (1).json").write_text((room / "1.json").read_text())
    (room / "g\x1b[31m.json").write_text("")
    (room / ".DS_Store").write_text("")
    shared(room, 100, states, form=2)
    odd = [
        {SUM.key: {"tries": "many"}}, {SUM.key: {"tries": -1}}, {SUM.key: {"tries": 10**9}},
        {SUM.key: {"tries": True}}, {SUM.key: {"name": "Ada"}}, {SUM.key: 3}, [],
        {SUM.key: {"mistakes": {"x": 10**9}}}, {SUM.key: {"solved": "yes"}},
    ]  # fmt: skip
    for place, one in enumerate(odd):
        shared(room, 200 + place, one)
    shared(room, 300, {}, number="../../x")
    shared(room, 301, {}, number=7)
    summed = sharing.summary(room)
    words = sharing.table(summed)
    assert words.partition("\n\nLeft out:")[0] == good
    assert len(summed.left_out) == 20
    left_out = "\n".join(summed.left_out)
    for sentence in (
        "from a mail/photo.jpg is damaged, or no file of exported progress: ask for it anew.",
        "a.json is damaged, or no file of exported progress: ask for it anew.",
        "b.json is the file of another program: take it out.",
        "c.json is a learner's own progress: ask for what `mbm-lab exercises --export` writes.",
        "e.json is too large to be exported progress: take it out.",
        "f (1).json is in the folder twice: it counts once.",
        "g?[31m.json is damaged",
        "100.json was written by another version of the course: ask for it anew, from this one.",
        "200.json is damaged: its counts are not what the course writes, so ask for it anew.",
    ):
        assert sentence in left_out.replace("\\", "/"), left_out
    assert "\x1b" not in words


def test_exercises_of_another_course_are_left_out_and_said(room):
    shared(room, 400, {"99.new": {"tries": 1}, SUM.key: {"tries": 1}})
    summed = sharing.summary(room)
    assert summed.learners == 13
    assert summed.left_out == [
        "400.json has exercises that this course has not: they are left out."
    ]


def test_a_folder_without_exports_is_one_sentence(tmp_path, capsys):
    assert main(["exercises", "--summary", str(tmp_path / "gone")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "x.json").write_text("[]")
    assert main(["exercises", "--summary", str(tmp_path)]) == 2
    assert "x.json is the file of another program: take it out." in capsys.readouterr().err
    assert main(["exercises", "--out", "x.png"]) == 2
    assert "--out names the picture of --summary" in capsys.readouterr().err


def test_a_room_in_which_nobody_tried_is_no_error(tmp_path):
    shared(tmp_path, 1, {})
    summed = sharing.summary(tmp_path)
    assert sharing.table(summed) == "1 learner.\nNobody has tried an exercise."
    assert "nobody has tried" in sharing.draw(summed, tmp_path / "empty.png")
    with pytest.raises(ValueError, match=r"as in room\.png"):
        sharing.draw(summed, tmp_path / "room.pdf")
