"""`mbm-lab doctor`: is everything that the course needs as it should be, and if not, what to do?

Each check is a small function that returns findings. What it looks at comes in as an argument
with the usual value, so that tests can show it a fault.
"""

import contextlib
import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mbm_lab import place

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)  # the newest for which the pinned PyTorch is made

# Packages whose name for `import` is another.
IMPORT_NAMES = {"pillow": "PIL", "scikit-learn": "sklearn"}

# Names that a kernel may give instead of a path; Jupyter then takes its own Python.
OWN_PYTHON = re.compile(r"python(3(\.\d+)?)?")

# What files of compiled packages end with: only loading such a package tells whether it works.
COMPILED = (".so", ".pyd", ".dylib", ".dll")

INSTALL = (
    "install the course again: `pip install --force-reinstall mbm-lab`."
    if place.INSTALLED
    else "install the packages again: `pip install -c constraints.txt -e .` (or `make lab`)."
)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    what: the thing that was checked, in a word or two; ok: True, False for a fault, or None for a
    warning (the course runs, but look at it); says: what is the case; todo: what to do about it,
    when there is something to do.
    """

    what: str
    ok: bool | None
    says: str
    todo: str = ""


def examine() -> list[Finding]:
    """Makes every check; a check that fails itself counts as a fault."""
    findings = []
    for check in CHECKS:
        try:
            findings.extend(check())
        except Exception as error:  # a doctor must not die of a patient
            name = check.__name__.removeprefix("check_")
            says = f"this could not be checked ({type(error).__name__}: {error})"
            findings.append(Finding(name, False, says, INSTALL))
    return findings


def report(findings: list[Finding] | None = None) -> int:
    """Prints what was found, one line a check; returns 1 if there is a fault, else 0."""
    findings = examine() if findings is None else findings
    for finding in findings:
        for line in lines(finding):
            print(line)
    faults = sum(finding.ok is False for finding in findings)
    warnings = sum(finding.ok is None for finding in findings)
    print()
    if faults:
        print(f"{_count(faults, 'fault')} to mend: follow the arrows, then run this again.")
    elif warnings:
        print(f"The course runs. {_count(warnings, 'thing')} to look at: see the arrows.")
    else:
        print("Everything is as it should be.")
    return 1 if faults else 0


def lines(finding: Finding) -> Iterator[str]:
    """A finding in words: one line, and an arrow line with what to do."""
    mark = {True: "ok     ", None: "look   ", False: "FAULT  "}[finding.ok]
    yield f"{mark}{finding.what}: {finding.says}"
    if finding.todo:
        yield f"       -> {finding.todo}"


# The checks


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> list[Finding]:
    """Python is one of the versions that the course is made for."""
    name = ".".join(str(part) for part in version)
    if OLDEST_PYTHON <= tuple(version[:2]) <= NEWEST_PYTHON:
        return [Finding("Python", True, name)]
    oldest, newest = (".".join(map(str, v)) for v in (OLDEST_PYTHON, NEWEST_PYTHON))
    todo = f"install one of these and make the environment anew with it (now: {sys.prefix})."
    return [Finding("Python", False, f"{name}, but the course needs {oldest} to {newest}", todo)]


def check_packages(
    names: list[str] | None = None,
    pins: dict[str, str] | None = None,
    installed: Callable[[str], str] = metadata.version,
    broken: Callable[[list[str]], dict[str, str]] | None = None,
) -> list[Finding]:
    """Every package that the course imports is there, works, and has the pinned version.

    broken: says what is wrong with those of these packages that do not work.
    """
    names = dependencies() if names is None else names
    pins = pinned() if pins is None else pins
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = installed(name)
    faults = (broken or broken_packages)(list(versions))
    findings = [
        _package(name, versions.get(name), pins.get(name), faults.get(name)) for name in names
    ]
    wrong = [finding for finding in findings if finding.ok is not True]
    good = len(findings) - len(wrong)
    if good:
        says = f"{good} of {len(findings)} are there, at the course's versions"
        wrong.insert(0, Finding("packages", True, says))
    return wrong


def check_needed(
    names: list[str] | None = None, needs: dict[str, list[str]] | None = None
) -> list[Finding]:
    """The packages that those which the course imports need in their turn are there."""
    needs = needed_packages() if needs is None else needs
    asked = [name for name in (dependencies() if names is None else names) if name in needs]
    findings, seen = [], set(asked)
    while asked:
        name = asked.pop()
        for other in set(needs[name]) - seen:
            seen.add(other)
            if other in needs:
                asked.append(other)
            else:
                says = f"is not installed in this Python, and {name} needs it"
                findings.append(Finding(other, False, says, INSTALL))
    return findings


def check_kernel(name: str = "python3", program: str | None = None) -> list[Finding]:
    """The kernel that notebooks use is this very Python environment."""
    todo = "make the kernel anew: `python -m ipykernel install --sys-prefix`, with this Python."
    if program is None:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

        try:
            program = KernelSpecManager().get_kernel_spec(name).argv[0]
        except NoSuchKernel:
            return [Finding("kernel", False, f"Jupyter finds no kernel named {name}", todo)]
    if OWN_PYTHON.fullmatch(Path(program).name) and program == Path(program).name:
        program = sys.executable
    if _prefix(program) == sys.prefix:
        return [Finding("kernel", True, "notebooks run in this Python environment")]
    says = f"notebooks would run in another Python ({program}), not in this one ({sys.executable})"
    return [Finding("kernel", False, says, todo)]


def check_widgets(folders: list[str] | None = None) -> list[Finding]:
    """JupyterLab's part of ipywidgets, which draws sliders, is there and switched on."""
    name = "@jupyter-widgets/jupyterlab-manager"
    if folders is None:
        from jupyter_core.paths import jupyter_path

        folders = jupyter_path("labextensions")
    if not any((Path(folder) / name / "package.json").is_file() for folder in folders):
        todo = "`pip install -c constraints.txt --force-reinstall --no-deps jupyterlab_widgets`"
        return [Finding("sliders", False, "JupyterLab cannot draw them (ipywidgets' part)", todo)]
    if name in disabled_extensions():
        todo = f"switch it on: `jupyter labextension enable {name}`"
        return [Finding("sliders", False, "JupyterLab's part of ipywidgets is switched off", todo)]
    return [Finding("sliders", True, "JupyterLab can draw them")]


def check_data(folder: Path = place.COURSE / "data" / "postcards") -> list[Finding]:
    """The postcards are there, and their tables agree with their files."""
    todo = "get the course's folder `data` again, from where you have the course."
    parts = ("images", "captions.txt", "cards.csv")
    missing = [name for name in parts if not (folder / name).exists()]
    if missing:
        return [Finding("data", False, f"missing in {folder}: {', '.join(missing)}", todo)]
    try:
        cards = {f"{row['name']}.png" for row in _rows(folder / "cards.csv")}
        captioned = {row["image"] for row in _rows(folder / "captions.txt")}
    except (KeyError, ValueError, csv.Error):
        return [Finding("data", False, f"a table in {folder} cannot be read", todo)]
    images = {file.name for file in (folder / "images").glob("*.png")}
    if differ := (cards | captioned | images) - (cards & captioned & images):
        says = (
            f"{len(cards)} cards, {len(captioned)} with a caption, {len(images)} pictures: "
            f"{min(differ)} is not in all three"
        )
        return [Finding("data", False, says, todo)]
    return [Finding("data", True, f"{len(cards)} postcards")]


def check_weights(folder: Path = place.COURSE / "data" / "weights") -> list[Finding]:
    """The small trained models are there."""
    models = list(folder.glob("*.safetensors")) if folder.is_dir() else []
    if models:
        return [Finding("trained models", True, f"{len(models)} of them")]
    todo = "train them anew, in a few minutes: `mbm-lab weights`"
    return [Finding("trained models", False, f"there are none in {folder}", todo)]


def check_device(torch: object = None, graphics_card: bool | None = None) -> list[Finding]:
    """PyTorch computes, and uses the graphics card (GPU) if there is one."""
    from mbm_lab import device

    if torch is None:
        import torch
    if graphics_card is None:
        graphics_card = shutil.which("nvidia-smi") is not None
    try:
        says = device.describe_device()
    except ValueError as error:
        return [Finding("device", False, str(error), "unset MBM_DEVICE, or set it to cpu.")]
    if torch.cuda.is_available() or not graphics_card:
        return [Finding("device", True, says)]
    if torch.version.cuda is None:
        says += "; there is an NVIDIA GPU, but this PyTorch is made without CUDA"
        todo = "the lessons run without it; the README says how to get PyTorch with CUDA."
    else:
        says += "; there is an NVIDIA GPU, but PyTorch cannot use it"
        todo = "most often its driver is too old or not loaded: see what `nvidia-smi` says."
    return [Finding("device", None, says, todo)]


def check_folder(folder: Path = place.HOME) -> list[Finding]:
    """The learner's folder can be written to, or made, for the copies of the lessons."""
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)):
            pass
    except OSError as error:
        todo = "name another folder, as in `mbm-lab lab FOLDER`, or make this one writable."
        return [Finding("folder", False, f"{folder} cannot be written to ({error.strerror})", todo)]
    return [Finding("folder", True, "your copies of the lessons can be saved")]


def check_jupyter(folders: dict[str, str] | None = None) -> list[Finding]:
    """Jupyter can write what it needs while it runs, and what it keeps.

    folders: of the variables that name them; on some servers the home folder is read-only.
    """
    folders = _jupyter_folders() if folders is None else folders
    findings = []
    for variable, folder in folders.items():
        try:
            with tempfile.TemporaryFile(dir=nearest(Path(folder))):
                pass
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            must = variable == "JUPYTER_RUNTIME_DIR"
            what = "what Jupyter needs while it runs" if must else "your settings of Jupyter"
            says = f"{folder}, for {what}, cannot be written to ({why})"
            todo = f"make room there, or let the variable {variable} name another folder."
            findings.append(Finding("Jupyter", False if must else None, says, todo))
    return findings or [Finding("Jupyter", True, "it can write what it needs")]


def _jupyter_folders() -> dict[str, str]:
    """Where Jupyter and IPython write, by the variable that names it."""
    from IPython.paths import get_ipython_dir
    from jupyter_core import paths

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # IPython says that it takes another folder instead
        return {
            "JUPYTER_RUNTIME_DIR": paths.jupyter_runtime_dir(),
            "JUPYTER_CONFIG_DIR": paths.jupyter_config_dir(),
            "JUPYTER_DATA_DIR": paths.jupyter_data_dir(),
            "IPYTHONDIR": os.environ.get("IPYTHONDIR") or get_ipython_dir(),
        }


def check_disk(free_bytes: int | None = None) -> list[Finding]:
    """There is room on the disk."""
    free = (shutil.disk_usage(nearest(place.HOME)).free if free_bytes is None else free_bytes) / 1e9
    if free < 0.1:
        return [Finding("disk", False, f"only {free:.2f} GB free", "delete something.")]
    if free < 1:
        return [Finding("disk", None, f"only {free:.1f} GB free", "a little more room is safer.")]
    return [Finding("disk", True, "1 GB or more is free")]


def check_memory(free_bytes: int | None = None) -> list[Finding]:
    """There is memory for a lesson: about half a gigabyte."""
    if free_bytes is None:
        import psutil

        free_bytes = psutil.virtual_memory().available
    free = free_bytes / 1e9
    if free >= 1:
        return [Finding("memory", True, "1 GB or more is free")]
    todo = "close other programs and other notebooks; a lesson needs about half a gigabyte."
    return [Finding("memory", None, f"only {free:.1f} GB free", todo)]


CHECKS = [
    check_python,
    check_packages,
    check_needed,
    check_kernel,
    check_widgets,
    check_data,
    check_weights,
    check_device,
    check_folder,
    check_jupyter,
    check_disk,
    check_memory,
]


# What the checks read


def dependencies() -> list[str]:
    """The names of the packages that the course imports: as pyproject.toml lists them, or as they
    were noted down when the course was installed as a package."""
    if place.INSTALLED:
        return [package_name(one) for one in metadata.requires("mbm-lab") if "extra ==" not in one]
    text = (place.COURSE / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    return [package_name(requirement) for requirement in project["dependencies"]]


def pinned() -> dict[str, str]:
    """The version of each package in constraints.txt, if it has one version everywhere. A course
    that was installed as a package has none: it takes what pip chose."""
    pins = {}
    if place.INSTALLED:
        return pins
    for line in (place.COURSE / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, equals, version = line.partition("==")
        if equals and ";" not in version and not name.startswith("#"):
            pins[package_name(name)] = version.strip()
    return pins


def package_name(requirement: str) -> str:
    """`scikit-learn` from `Scikit_Learn>=1.6`: the name in its one normal spelling."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def disabled_extensions() -> set[str]:
    """The parts of JupyterLab that are switched off here."""
    from jupyter_core.paths import jupyter_config_path

    names = set()
    for folder in jupyter_config_path():
        for file in Path(folder, "labconfig").glob("page_config.json"):
            try:
                said = json.loads(file.read_text(encoding="utf-8"))
                disabled = said.get("disabledExtensions", {})
                if isinstance(disabled, dict):
                    disabled = [name for name, off in disabled.items() if off]
                names |= set(disabled)
            except (OSError, ValueError, RecursionError, AttributeError, TypeError):
                continue  # Jupyter passes such a file over, too
    return names


def needed_packages() -> dict[str, list[str]]:
    """For each package that is installed: the packages that it needs here."""
    from packaging.requirements import Requirement

    needs = {}
    for package in metadata.distributions():
        asked = [Requirement(line) for line in package.requires or []]
        needs[package_name(package.name)] = [
            package_name(one.name)
            for one in asked
            if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
    return needs


def broken_packages(names: list[str]) -> dict[str, str]:
    """What is wrong with those of these packages that do not work.

    Compiled ones are loaded: PyTorch here, because the device is looked at with it, and meanwhile
    the others in another Python, which they may bring down. To load those that are Python alone
    would take many seconds; their files are looked at instead.
    """
    files = {name: _files(name) for name in names if name != "torch"}
    pure = {
        name: there
        for name, there in files.items()
        if there and not any(file.suffix in COMPILED for file in there)
    }
    faults = {name: fault for name, there in pure.items() if (fault := _incomplete(there))}
    others = [name for name in files if name not in pure]
    modules = [IMPORT_NAMES.get(name, name) for name in others]
    command = [sys.executable, "-P", "-c", LOADER, *modules]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as loader:
        if "torch" in names:
            try:
                importlib.import_module("torch")
            except Exception as error:  # a broken package may raise anything
                faults["torch"] = f"{type(error).__name__}: {error}"
        said = loader.communicate()[0].decode(errors="replace")
    tried = dict(line.split("\t", 1) for line in said.splitlines() if "\t" in line)
    for name, module in zip(others, modules, strict=True):
        if fault := tried.get(module, "Python ends when it is loaded"):
            faults[name] = fault
    return faults


# Loads modules; prints the name of each, a tab, and what went wrong, if anything did.
LOADER = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        fault = ""
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
    print(name, fault, sep="\t", flush=True)
"""


def _files(name: str) -> list[metadata.PackagePath] | None:
    """A package's files as they were installed. (From Python 3.13 on, `metadata.files` leaves out
    those that are missing, which are looked for here.)"""
    package = metadata.distribution(name)
    record = package.read_text("RECORD")
    if record is None:
        return package.files
    files = []
    for path, _, size in csv.reader(record.splitlines()):
        file = metadata.PackagePath(path)
        file.size, file.dist = int(size) if size else None, package
        files.append(file)
    return files


def _incomplete(files: list[metadata.PackagePath]) -> str | None:
    """Which Python file of a package is missing, or is not as it was installed."""
    for file in files:
        if file.suffix == ".py":
            path = Path(file.locate())
            if not path.is_file():
                return f"its file {file} is missing"
            if file.size not in (None, path.stat().st_size):
                return f"its file {file} is not as it was installed"
    return None


def _package(name: str, version: str | None, pin: str | None, fault: str | None) -> Finding:
    """One package: there, working, and at its version."""
    if version is None:
        return Finding(name, False, "is not installed in this Python", INSTALL)
    if fault is not None:
        says = f"is installed ({version}) but does not work ({fault})"
        return Finding(name, False, says, INSTALL)
    if pin is not None and version.partition("+")[0] != pin:  # 2.13.0+cpu is a build of 2.13.0
        says = f"is version {version}; the course was made with {pin}"
        return Finding(name, None, says, "if a lesson behaves oddly, " + INSTALL)
    return Finding(name, True, version)


def _prefix(program: str) -> str | None:
    """The environment that a Python program belongs to, or None if it does not run."""
    command = [program, "-c", "import sys; print(sys.prefix)"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None


def nearest(folder: Path) -> Path:
    """This folder, or the nearest one around it that is already there."""
    return next(one for one in (folder, *folder.parents) if os.path.lexists(one))


def _rows(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _count(number: int, thing: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
