"""The course's comparison of notebook cells: what passes, and what fails.

Each test makes a tiny notebook and runs it in a pytest of its own, as `make test` runs lessons.
"""

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mbm_lab.outputs import LIVE
from mbm_lab.place import COURSE as REPOSITORY
from tests import approx

STORED = "picture alone: R2 0.62\nboth: R2 0.80\n"
APPROX = {"tags": ["approx"], "tolerance": 0.05}

PASS = "PASSED"
FAIL = "FAILED"


def run(folder, cells, *options):
    """Runs a notebook of these cells: the outcome of each, and all that pytest printed."""
    for number, cell in enumerate((c for c in cells if c.cell_type == "code"), start=1):
        cell.execution_count = number
    notebook = folder / "00_tiny.ipynb"
    nbformat.write(new_notebook(cells=cells), notebook)
    # No summary (-rN): where the variable CI is set it would say each failure a second time.
    command = [sys.executable, "-m", "pytest", "-v", "-rN", "--color=no", "-p", "no:cacheprovider"]
    command += [f"--rootdir={folder}", "-c", str(REPOSITORY / "pyproject.toml"), *options]
    command += ["--nbval", "--nbval-current-env", str(notebook)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    result = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=180
    )
    return re.findall(r"::Cell \d+ (PASSED|FAILED)", result.stdout), result.stdout


def printing(text, metadata=APPROX):
    """A cell that prints this text, and has stored STORED."""
    stored = [new_output("stream", name="stdout", text=STORED)]
    return new_code_cell(f"print({text!r}, end='')", metadata=metadata, outputs=stored)


@pytest.mark.slow
def test_numbers_within_the_tolerance_pass_and_all_else_fails(tmp_path):
    cases = [
        ("the stored text", STORED, PASS),
        ("numbers within the tolerance", STORED.replace("0.62", "0.67").replace("80", "76"), PASS),
        ("a number out of tolerance", STORED.replace("0.62", "0.68"), FAIL),
        ("a changed word", STORED.replace("both", "all"), FAIL),
        ("a missing line", STORED.splitlines()[0], FAIL),
        ("an extra number", STORED.replace("0.80", "0.80 0.80"), FAIL),
        ("an extra line", STORED + "and more\n", FAIL),
        ("nothing", "", FAIL),
    ]
    outcomes, said = run(tmp_path, [printing(text) for _, text, _ in cases])
    assert outcomes == [expected for _, _, expected in cases], said
    assert "00_tiny.ipynb::Cell 2" in said
    assert "may differ by at most 0.05" in said


@pytest.mark.slow
def test_progress_bars_and_live_views_beside_a_picture_are_not_compared(tmp_path):
    bar = new_output("display_data", data={"text/plain": "epochs:   0%|          | 0/30", LIVE: {}})
    view = new_output("display_data", data={"text/plain": "a slider", LIVE: {}})
    still = {"text/plain": "a slider", "image/png": "abc\n"}
    shown = new_output("stream", name="stdout", text="done\n")
    code = "from IPython.display import display; display({}, raw=True)"
    cells = [
        new_code_cell(f"{code.format(dict(bar.data))}; print('done')", outputs=[shown]),
        new_code_cell("print('done')", outputs=[bar, shown]),
        new_code_cell(
            code.format({**still, LIVE: {}}), outputs=[new_output("display_data", data=still)]
        ),
        new_code_cell("print('done')", outputs=[view, shown]),  # no picture, and no bar
    ]
    outcomes, said = run(tmp_path, cells)
    assert outcomes == [PASS, PASS, PASS, FAIL], said


@pytest.mark.slow
def test_a_cell_without_the_tag_is_compared_strictly(tmp_path):
    cells = [printing(STORED, {}), printing(STORED.replace("0.62", "0.63"), {})]
    assert run(tmp_path, cells)[0] == [PASS, FAIL]


@pytest.mark.slow
def test_results_and_tables_are_compared_too(tmp_path):
    def cell(table, result):
        code = "from IPython.display import HTML, display; display(HTML('<b>score 0.64</b>')); 0.41"
        shown = {"text/html": table, "text/plain": "<IPython.core.display.HTML object>"}
        stored = [
            new_output("display_data", data=shown),
            new_output("execute_result", data={"text/plain": result}, execution_count=1),
        ]
        return new_code_cell(code, metadata=APPROX, outputs=stored)

    cells = [
        cell("<b>score 0.62</b>", "0.40"),
        cell("<b>score 0.52</b>", "0.40"),
        cell("<i>score 0.62</i>", "0.40"),
        cell("<b>score 0.62</b>", "0.50"),
    ]
    outcomes, said = run(tmp_path, cells)
    assert outcomes == [PASS, FAIL, FAIL, FAIL], said


@pytest.mark.slow
def test_a_tag_without_a_good_tolerance_is_an_error_that_names_the_cell(tmp_path):
    bad = [0, -1, True, "0.05", {"relative": 0.1}]
    cells = [printing(STORED, {"tags": ["approx"]})]
    cells += [printing(STORED, {"tags": ["approx"], "tolerance": value}) for value in bad]
    outcomes, said = run(tmp_path, cells)
    assert outcomes == [FAIL] * 6, said
    assert said.count("its metadata states no tolerance") == 6


@pytest.mark.slow
def test_a_lesson_that_takes_far_longer_than_it_says_fails_once(tmp_path):
    (tmp_path / "impatient.py").write_text("from tests import approx\napprox.START_SECONDS = 0.5\n")
    time = "**Time**: 5 minutes to read, 0 seconds to run (two-core laptop, no GPU)."
    cells = [
        new_markdown_cell(f"# Tiny\n\n{time}"),
        new_code_cell("import time; time.sleep(1)"),
        new_code_cell("x = 1"),
    ]
    outcomes, said = run(tmp_path, cells, "-p", "impatient")
    assert outcomes == [FAIL, PASS], said
    assert "00_tiny.ipynb has taken" in said


def test_words_are_strict_and_numbers_are_not():
    assert approx.close("a  0.10 b", "a -0.00 b", 0.1)
    assert approx.close("loss \u22120.10", "loss -0.12", 0.05)
    assert approx.close("1.2e-3 s", "0.0010 s", 0.05)
    assert not approx.close("conv1 0.10", "conv2 0.10", 5)
    assert not approx.close("0.10\n0.20", "0.10 0.20", 5)
    assert not approx.close("nan", "0.10", 5)


def test_most_seconds_come_from_what_the_lesson_states(tmp_path):
    line = "**Time**: 5 minutes to read, {} seconds to run (two-core laptop, no GPU)."
    stated = {s: new_notebook(cells=[new_markdown_cell(line.format(s))]) for s in (20, 170)}
    assert approx.most_seconds(tmp_path / "04_fusion.ipynb", stated[20]) == 70
    assert approx.most_seconds(tmp_path / "04_fusion.ipynb", stated[170]) == 180
    assert approx.most_seconds(tmp_path / "11_scaling.ipynb", stated[170]) == 270
    assert approx.most_seconds(tmp_path / "12_real_data.ipynb", stated[170]) == 520
    assert approx.most_seconds(tmp_path / "04_fusion.ipynb", new_notebook()) == 180


@pytest.mark.slow
def test_a_cell_whose_data_are_missing_is_run_and_not_compared(tmp_path, monkeypatch):
    needing = "%%needs fsdd\nprint('picture alone: R2', 0.99)"
    cells = [
        new_code_cell("%load_ext mbm_lab.needs"),
        new_code_cell(needing, outputs=[new_output("stream", name="stdout", text=STORED)]),
        printing("another thing"),  # this one needs no data, so it is compared
    ]
    monkeypatch.setenv("MBM_DATA_HOME", str(tmp_path))
    assert run(tmp_path, cells)[0] == [PASS, PASS, FAIL]
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    (tmp_path / "fsdd" / "recordings" / "0_theo_0.wav").touch()
    assert run(tmp_path, cells)[0] == [PASS, FAIL, FAIL]
