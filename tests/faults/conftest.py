"""Each module of faults is a file of tests, with a test for each fault."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import faults


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".py" and file_path.stem in faults.modules():
        return Module.from_parent(parent, path=file_path)
    return None


class Module(pytest.File):
    """A module with `faults(seed)`."""

    def collect(self) -> Iterator[pytest.Item]:
        times = Counter()
        for fault in faults.faults_of(self.path.stem):
            name = short(f"{fault.kind}: {fault.what}")
            times[name] += 1
            again = f" ({times[name]})" if times[name] > 1 else ""
            yield Planted.from_parent(self, name=name + again, fault=fault)


def short(text: str) -> str:
    """A test's name: ASCII, on one line, and the same in every process."""
    return ascii(text)[1:-1].replace("::", ":")[:120].strip()


class Planted(pytest.Item):
    """One fault: it ends in a sentence or in the right result."""

    def __init__(self, *, fault: faults.Fault, **of_pytest):
        super().__init__(**of_pytest)
        self.fault = fault

    def runtest(self) -> None:
        outcome, said = faults.planted(self.fault)
        if outcome not in faults.OUTCOMES[:2]:
            raise Bad(f"{outcome}: {said}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo, style: str | None = None):
        if isinstance(excinfo.value, Bad):
            return f"{self.fault.kind}: {self.fault.what}\n{excinfo.value}"
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class Bad(Exception):
    """A fault that ended as it should not."""
