"""trained.py: the folder of a report, its model as a file, and answers for new rows."""

import csv
import html
import io
import os
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from mbm_lab import report, stored, tables, trained, two_step
from mbm_lab.__main__ import main
from tests.small_runs import contents
from tests.small_tables import write_table


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A table and its report, made once; tests do not change them."""
    folder = tmp_path_factory.mktemp("shop")
    write_table(folder)
    assert main(["train", str(folder), "--target", "stars"]) == 0
    return folder


@pytest.fixture(scope="module")
def model(shop):
    return shop / "mbm_report" / "model.safetensors"


@pytest.fixture
def plain_page(monkeypatch):
    """Reports without figures, which take two seconds."""
    monkeypatch.setattr(report, "page", lambda found, command: f"{found.sentences} {found.v}")


def read_csv(text):
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))


def results(folder):
    """What two runs on the same table make alike, byte by byte; metadata are in any order."""
    checksum = stored.read_tensors(folder / "model.safetensors")[1]["checksum"]
    texts = [(folder / name).read_bytes() for name in ("report.html", "predictions.csv")]
    return [checksum, *texts]


def refused(*arguments):
    """The one sentence with which a command ends."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", errors)
        assert main([str(one) for one in arguments]) == 2
    lines = errors.getvalue().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


# --- Train


def test_a_table_becomes_a_report_a_model_and_predictions(shop, capsys):
    made = shop / "mbm_report"
    assert {path.name for path in made.iterdir()} == set(trained.FILES)
    assert {path.name for path in shop.iterdir()} == {"photos", "shop.csv", "mbm_report"}
    assert main(["train", str(shop), "--target", "stars"]) == 0
    said = capsys.readouterr().out
    assert "v explains" in said  # the honest sentences, again
    assert f"there already, of the same table: {made / 'report.html'}" in said
    table = tables.load_table(shop, target="stars")
    analysis = two_step.analyse(table)
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "mbm-lab predict mbm_report/model.safetensors NEW.csv" in page
    for sentence in analysis.sentences:
        assert sentence in said
        assert html.escape(sentence, quote=False) in page
    rows = read_csv((made / "predictions.csv").read_text(encoding="utf-8"))
    assert rows[0] == ["line", "row", "truth", "answer", "f (picture)", "g (text)"]
    assert [int(row[0]) for row in rows[1:]] == table.lines
    columns = torch.tensor([[float(cell) for cell in row[2:]] for row in rows[1:]]).T
    readings = analysis.readings
    for column, wanted in zip(
        columns, (table.target, analysis.v, readings["image"], readings["text"]), strict=True
    ):
        torch.testing.assert_close(column, wanted.float(), rtol=1e-5, atol=1e-6)


def test_an_interrupted_run_goes_on_and_ends_alike(
    shop, tmp_path, capsys, monkeypatch, plain_page
):
    table = tables.load_table(shop, target="stars")
    trained.train(table, tmp_path / "whole" / "report", say=str)
    steps, asked = [], []
    read = two_step.picture_features
    monkeypatch.setattr(two_step, "picture_features", lambda x: asked.append(1) or read(x))

    class Interrupted(trained.Bar):
        def __call__(self, what, done, total):
            super().__call__(what, done, total)
            if (what, done) not in steps and done in (0, 1, total // 2):  # stops there once
                steps.append((what, done))
                raise KeyboardInterrupt

    monkeypatch.setattr(trained, "Bar", Interrupted)
    out = tmp_path / "stopped" / "report"
    while not out.exists():
        try:
            trained.train(table, out)
        except KeyboardInterrupt:
            assert "it goes on from here" in capsys.readouterr().out
            assert not out.exists()
    assert len(steps) > 8
    assert "interrupted run goes on: 3 finished steps are taken over" in capsys.readouterr().out
    assert len(asked) == 1, "pictures are read once, however often it stops"
    assert results(out) == results(tmp_path / "whole" / "report")
    assert [path.name for path in out.parent.iterdir()] == ["report"]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_ends_alike(shop, tmp_path, capsys):
    out = tmp_path / "mbm_report"
    command = ["-m", "mbm_lab", "train", shop, "--target", "stars", "--out", out]
    running = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL)
    while not list(tmp_path.rglob("*.npz")):
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    running.kill()
    running.wait()
    (step, *_) = tmp_path.rglob("*.npz")
    step.write_bytes(step.read_bytes()[:100])  # and the power cut took half of a file
    assert main(["train", str(shop), "--target", "stars", "--out", str(out)]) == 0
    assert "An interrupted run goes on" in capsys.readouterr().out
    assert results(out) == results(shop / "mbm_report")


def test_a_changed_table_begins_anew_and_the_report_is_kept(tmp_path, capsys, plain_page):
    path = write_table(tmp_path, rows=40)
    out = tmp_path / "found"
    command = ["train", str(path), "--target", "stars", "--text", "review", "--out", str(out)]
    assert main(command) == 0
    first = contents(out)
    place = trained.open_place(out)
    trained.begin(place, "of another table")
    place.steps.mkdir()
    assert main(command) == 0, "what is finished is not asked for the key of what is not"
    assert contents(out) == first
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("lovely", "awful", 1), encoding="utf-8")
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "have changed since the interrupted run: it starts anew" in said
    assert f"The earlier report is kept: {tmp_path / 'found_1'}" in said
    assert contents(tmp_path / "found_1") == first
    assert contents(out)["report.html"] != first["report.html"]
    (out / "report.html").unlink()  # no longer whole: made again
    assert main(command) == 0
    assert (out / "report.html").exists()
    assert not (tmp_path / "found_2" / "report.html").exists()


def test_what_is_not_a_report_is_left_alone(shop, tmp_path, plain_page):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "settings.json").write_text('{"made by": "me"}')
    (tmp_path / "file").write_text("mine")
    (tmp_path / "new.unfinished").mkdir()
    (tmp_path / "new.unfinished" / "thesis.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out, why in ((foreign, "no report of mbm-lab train"), (tmp_path / "file", "no folder"),
                     (tmp_path / "new", "new.unfinished is there already"), (shop, "no report"),
                     ("/", "cannot be")):  # fmt: skip
        assert why in refused("train", shop, "--target", "stars", "--out", out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "empty").mkdir()
    table = tables.load_table(shop, text="review", target="stars")
    assert trained.train(table, tmp_path / "empty", say=str) == tmp_path / "empty"


@pytest.mark.skipif(os.name == "nt", reason="permissions are other ones there")
def test_a_folder_that_cannot_be_written_is_one_sentence(shop, tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:  # root may write anywhere
        patch.setattr(trained.Path, "mkdir", forbidden)
        assert "Could not write into" in refused(
            "train", shop, "--target", "stars", "--out", tmp_path / "report"
        )
    assert "Could not write into" in refused(
        "train", shop, "--target", "stars", "--out", tmp_path / "a" / ("x" * 300)
    )


def test_class_folders_with_a_report_inside_are_read_as_before(tmp_path, plain_page):
    for light, name in ((30, "night"), (220, "day")):
        (tmp_path / name).mkdir()
        for number in range(16):
            picture = Image.new("RGB", (8, 8), (light + number, light, light))
            picture.save(tmp_path / name / f"{number}.png")
    assert main(["train", str(tmp_path)]) == 0
    assert main(["train", str(tmp_path)]) == 0
    assert not (tmp_path / "mbm_report_1").exists(), "the report is no class"
    new = tmp_path / "new"
    new.mkdir()
    Image.new("RGB", (8, 8), (210, 215, 215)).save(new / "bright.png")
    found = trained.predict(tmp_path / "mbm_report", new, say=str, warn=str)
    assert found[1][1:3] == ["bright.png", "day"]


@pytest.mark.parametrize("said", ["image", "image=", "smell=timm:resnet18", "=x"])
def test_an_encoder_that_is_not_named_rightly(said):
    with pytest.raises(ValueError, match="write it as in image=timm:resnet18"):
        trained.named_encoders([said])
    assert trained.named_encoders(["audio=a:b", "text=c:d=e"]) == {"sound": "a:b", "text": "c:d=e"}


def test_an_encoder_that_cannot_be_had_is_one_sentence(shop, tmp_path, monkeypatch):
    command = "train", shop, "--target", "stars", "--out", tmp_path / "out", "--encoder"
    assert "There is no encoder" in refused(*command, "image=resnet18")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install timm" in refused(*command, "image=timm:resnet18")

    def offline(name):
        raise RuntimeError("no route to host\nTraceback")

    monkeypatch.setattr(two_step, "encoder_named", offline)
    assert "timm:x cannot be had (no route to host)" in refused(*command, "image=timm:x")
    assert not list(tmp_path.iterdir())


# --- The model as a file


def test_a_model_goes_to_a_file_and_back(shop, model):
    table = tables.load_table(shop, target="stars")
    wanted = two_step.analyse(table).model
    found = trained.load_model(model)
    assert found.about() == wanted.about()
    assert torch.equal(two_step.predict(found, table), two_step.predict(wanted, table))


def test_a_model_that_is_damaged_or_another_is_one_sentence(model, tmp_path, shop):
    path, whole = tmp_path / "model.safetensors", model.read_bytes()
    rows = shop / "shop.csv"
    assert "no model at" in refused("predict", path, rows)
    assert "no model at" in refused("predict", tmp_path, rows)
    for content in (b"", b"not a model", whole[:50], whole[:-1]):
        path.write_bytes(content)
        assert "damaged" in refused("predict", path, rows)
    for place in (len(whole) - 3, len(whole) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "was changed" in refused("predict", path, rows)
    path.write_bytes(whole.replace(b"two-step", b"one-step"))
    assert "was changed" in refused("predict", path, rows)
    stored.save_weights(torch.nn.Linear(2, 2), path)
    assert "is no model of mbm-lab train" in refused("predict", path, rows)
    for about in ('"x"', "{}", '{"modalities": ["image"]}', '{"modalities": 7}'):
        facts = {"made by": trained.MADE_BY, "version": "9.0", "about": about}
        tensors = {"weights": torch.ones(1)}
        facts["checksum"] = stored.checksum(facts, tensors)
        stored.save_tensors(tensors, path, facts)
        assert "another version of the course (9.0)" in refused("predict", path, rows)


# --- Predict


def test_new_rows_are_answered_or_keep_their_reason(shop, model, tmp_path, capsys):
    write_table(tmp_path, rows=8, seed=1)
    (tmp_path / "photos" / "004.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "005.png").unlink()
    path = tmp_path / "shop.csv"
    rows = [row[:2] for row in read_csv(path.read_text(encoding="utf-8"))]  # without stars
    rows[3][1] = ""
    path.write_text("\n".join(f'{name},"{text}"' for name, text in rows), encoding="utf-8")
    out = tmp_path / "answers.csv"
    assert main(["predict", str(model), str(path), "--out", str(out)]) == 0
    assert "5 rows answered, 3 not" in capsys.readouterr().out
    assert out.read_bytes().startswith("\ufeffline,".encode())
    found = read_csv(out.read_text(encoding="utf-8"))
    assert found[0] == ["line", "row", "answer", "not answered because"]
    assert [int(row[0]) for row in found[1:]] == list(range(2, 10))
    why = {int(row[0]): row[3] for row in found[1:] if row[3]}
    assert why.keys() == {4, 6, 7}
    assert all(row[2] == "" for row in found[1:] if row[3])
    assert "review" in why[4]
    assert why[6] == "its picture cannot be read"
    assert "005.png is not in" in why[7]
    kept = tables.load_rows(path, {"image": "photo", "text": "review"})
    kept = kept.subset([place for place, line in enumerate(kept.lines) if line != 6])
    wanted = two_step.predict(trained.load_model(model), kept)
    answers = torch.tensor([float(row[2]) for row in found[1:] if row[2]])
    torch.testing.assert_close(answers, wanted.float(), rtol=1e-5, atol=1e-6)
    before = out.read_bytes()
    assert "answers.csv is there already" in refused("predict", model, path, "--out", out)
    assert out.read_bytes() == before
    assert main(["predict", str(model.parent), str(path)]) == 0  # printed, and the folder will do
    assert read_csv(capsys.readouterr().out) == found


def test_a_missing_column_or_file_is_one_sentence(model, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("photo,text\na.png,hello you there\n")
    assert 'no column "review"' in refused("predict", model, path)
    assert "gone.csv" in refused("predict", model, tmp_path / "gone.csv")


def test_no_cell_becomes_a_formula():
    cells = ["=1+1", "+1 (555)", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "＝1+1", " =2"]
    text = trained.as_csv([cells, ["-1", "+2.5", "a=b", 'say "hi", or\nnot', -0.25, "猫"]])
    first, second = read_csv(text)
    assert first == [f"'{cell}" for cell in cells]
    assert second == ["-1", "+2.5", "a=b", 'say "hi", or\nnot', "-0.25", "猫"]


def test_classes_are_answered_by_name_and_probability(tmp_path, plain_page):
    write_table(tmp_path, classes=True)
    table = tables.load_table(tmp_path, text="review", target="stars")
    out = trained.train(table, tmp_path / "out", say=str)
    rows = read_csv((out / "predictions.csv").read_text(encoding="utf-8"))
    assert rows[0] == ["line", "row", "truth", "answer", "probability", "f (text)"]
    assert {row[2] for row in rows[1:]} == {row[3] for row in rows[1:]} == {"high", "low"}
    assert all(0.5 <= float(row[4]) <= 1 for row in rows[1:])
    found = trained.predict(out, tmp_path / "shop.csv", say=str, warn=str)
    v = two_step.predict(trained.load_model(out), table)
    assert [row[2] for row in found[1:]] == [table.classes[i] for i in v.argmax(1).tolist()]
    torch.testing.assert_close(torch.tensor([row[3] for row in found[1:]]), v.max(1).values.float(),
                               rtol=1e-5, atol=1e-6)  # fmt: skip
