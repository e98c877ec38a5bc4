"""mutants.py: the faults that it makes, and whether a tiny course's tests notice them."""

import ast
import math
import random
from collections import Counter

import pytest

from tests import mutants

SOURCE = '''
"""A text - with 1 sign."""

LIMIT = 3 + 4


def standard(x: Tensor, mask: Tensor, reach: int = 2) -> Tensor:
    """No fault here: 1 + 1."""
    if x.ndim != 2 and not len(x) <= 7:
        raise ValueError(f"x has {x.ndim - 1} dimensions" + "!")
    print(1 + 1)
    path = folder / "α.txt"
    x = torch.where(mask, -x, x[~mask]).sum(1)
    noise: Tensor = torch.randn(len(x), generator=generator)
    for k in range(reach):
        x = max(x, sorted(noise)) * 0.5
    with torch.no_grad():
        model.eval()
    label += f"{x}"
    return torch.cat([x, y[::-1]], dim=1)
'''


def of(kind, source=SOURCE):
    return [one.after for one in mutants.Faults("x.py", source).found if one.kind == kind]


def test_every_kind_of_fault_is_found_in_its_place():
    assert of("sign") == ["x = torch.where(mask, x, x[~mask]).sum(1)"]
    assert of("factor") == ["x = (max(x, sorted(noise)) / 0.5)"]
    assert of("constant") == ["x = max(x, sorted(noise)) * 0.55"]
    assert of("axis") == [
        "x = torch.where(mask, -x, x[~mask]).sum(0)", "return torch.cat([x, y[::-1]], dim=0)"
    ]  # fmt: skip
    assert of("mask") == [
        "x = x[~mask].sum(1)", "x = torch.where(mask, -x, x).sum(1)",
        "x = torch.where(mask, -x, x[mask]).sum(1)",
    ]  # fmt: skip
    assert of("logic") == [
        "if (x.ndim != 2 or not len(x) <= 7):", "if x.ndim != 2 and (len(x) <= 7):",
    ]  # fmt: skip
    assert of("comparison") == ["if (x.ndim == 2) and not len(x) <= 7:"]
    assert "if x.ndim != 2 and not (len(x) < 7):" in of("off by one")
    assert "for k in range(reach - 1):" in of("off by one")
    assert of("generator") == ["noise: Tensor = torch.randn(len(x))"]
    assert of("order") == [
        "x = min(x, sorted(noise)) * 0.5", "x = max(x, sorted(noise, reverse=True)) * 0.5",
        "return torch.cat([x, y[::1]], dim=1)",
    ]  # fmt: skip
    assert of("mode") == ["with torch.enable_grad():", "pass"]
    assert of("unchanged") == ["return x"]
    assert of("default") == [
        f"def standard(x: Tensor, mask: Tensor, reach: int = {k}) -> Tensor:" for k in (3, 1)
    ]


def test_a_mutant_differs_in_one_place_and_is_a_program():
    """What is said or shown is no place: texts, annotations, errors, prints, names of files."""
    found = mutants.Faults("x.py", SOURCE).found
    old = SOURCE.splitlines()
    for one in found:
        new = one.code.decode().splitlines()
        (place,) = [i for i, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
        assert place == one.line - 1
        assert (old[place].strip(), new[place].strip()) == (one.before, one.after)
        assert not any(
            word in one.before for word in ("LIMIT", "raise", "print", "folder", "label", '"""')
        )
        assert ast.dump(ast.parse(one.code)) != ast.dump(ast.parse(SOURCE))


def test_faults_on_several_lines_and_after_letters_of_two_bytes():
    source = 'def f(a):\n    β = "é"; return (a +\n        1)  # é\n'
    (plus,) = of("sign", source)
    assert plus == 'β = "é"; return ((a - 1)) # é'
    assert plus in [one.after for one in mutants.Faults("x.py", source).found]


def test_the_draw_follows_the_seed_and_spreads_over_files_and_kinds():
    found = mutants.mutants_of("postcards")
    drawn = mutants.draw(found, 24, random.Random(1))
    assert drawn == mutants.draw(found, 24, random.Random(1))
    assert drawn != mutants.draw(found, 24, random.Random(2))
    assert set(Counter(one.path for one in drawn).values()) == {6}
    for path in {one.path for one in drawn}:
        kinds = Counter(one.kind for one in drawn if one.path == path)
        there = {one.kind for one in found if one.path == path}
        assert max(kinds.values()) <= math.ceil(6 / len(there))
    assert len(mutants.draw(found[:5], 24, random.Random(1))) == 5


def test_every_equivalent_mutant_is_still_one_of_the_modules():
    all_of_them = {
        (one.path, one.before, one.after)
        for module in mutants.MODULES for one in mutants.mutants_of(module)
    }  # fmt: skip
    assert mutants.EQUIVALENT.keys() <= all_of_them
    assert all(len(reason) > 20 for reason in mutants.EQUIVALENT.values())


# A tiny course: one module, one file of tests

MODULE = "def area(width, height):\n    return width * height\n"
BLIND = "from mbm_lab import shapes\n\ndef test_one():\n    assert shapes.area(1, 1) == 1\n"
SHARP = """import pytest

from mbm_lab import shapes


@pytest.mark.parametrize("name", ["a b"])
def test_two(name):
    assert shapes.area(2, 3) == 6
"""
ENDLESS = "def count(n):\n    while n > 0:\n        n -= 1\n    return n\n"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Writes the module and its tests; returns the folder. pytest starts without its plugins."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "mbm_lab").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "mbm_lab" / "__init__.py").touch()
    (tmp_path / "data").mkdir()

    def write(tests, module=MODULE):
        (tmp_path / "mbm_lab" / "shapes.py").write_text(module)
        (tmp_path / "tests" / "test_shapes.py").write_text(tests)
        return tmp_path

    return write


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_test_that_looks_kills_and_one_that_does_not_lets_live(course):
    root = course(BLIND)
    (mutant,) = mutants.mutants_of("shapes", root)
    assert (mutant.path, mutant.line, mutant.kind) == ("mbm_lab/shapes.py", 2, "factor")
    before = contents(root)
    assert mutants.Judge(root).killer("shapes", mutant) is None
    assert contents(root) == before, "the working tree is as it was"
    course(SHARP)
    killed = mutants.Judge(root).killer("shapes", mutant)
    assert killed == "tests/test_shapes.py::test_two[a b]"


@pytest.mark.slow
def test_the_tests_of_other_files_kill_where_they_may(course):
    root = course(BLIND)
    (root / "tests" / "test_other.py").write_text(SHARP)
    (root / "tests" / "test_far.py").write_text("def test_nothing():\n    pass\n")
    assert mutants.stages("shapes", root) == [
        ["tests/test_shapes.py"], ["tests/test_other.py"], ["tests/test_far.py"]
    ]  # fmt: skip
    (mutant,) = mutants.mutants_of("shapes", root)
    assert mutants.Judge(root, stages=1).killer("shapes", mutant) is None
    assert mutants.Judge(root).killer("shapes", mutant) == "tests/test_other.py::test_two[a b]"


def test_what_fails_already_kills_nothing(course):
    root = course("def test_wrong():\n    assert False\n")
    (mutant,) = mutants.mutants_of("shapes", root)
    with pytest.raises(SystemExit, match="test_wrong fails without any mutant: mend it first"):
        mutants.Judge(root).killer("shapes", mutant)


@pytest.mark.slow
def test_a_mutant_without_end_is_killed(course):
    tests = "from mbm_lab import shapes\n\ndef test_it():\n    assert shapes.count(2) == 0\n"
    root = course(tests, ENDLESS.replace("n -= 1", "n += 1"))
    assert mutants.run_tests(root, ["tests/test_shapes.py"], seconds=3) == "(no end)"


def test_the_command_prints_a_table_and_fails_for_a_survivor(capsys, monkeypatch):
    killers = iter(["tests/test_albums.py::test_one", None])
    monkeypatch.setattr(mutants.Judge, "killer", lambda *_: next(killers))
    assert mutants.main(["--module", "albums", "--per-module", "2"]) == 1
    said = capsys.readouterr().out
    assert said.count("| mbm_lab/albums.py:") == 2
    assert "| tests/test_albums.py::test_one |" in said
    assert "| albums | 2 | 1 | 0 | 1 |\n| all | 2 | 1 | 0 | 1 |" in said
    assert said.count("\n- ") == said.count("\n+ ") == 1
    with pytest.raises(SystemExit):
        mutants.main(["--module", "nowhere"])
    assert "there is no module nowhere" in capsys.readouterr().err
    line = int(said.split("albums.py:")[1].split(" ")[0])
    assert mutants.main(["--module", "albums", "--line", str(line), "--list"]) == 0
    assert f"| mbm_lab/albums.py:{line} |" in capsys.readouterr().out
