"""The campaign as a test: each fault ends in a sentence or in the right result."""

import pytest

from tests import faults


@pytest.mark.parametrize(
    "fault", faults.campaign(), ids=lambda fault: f"{fault.kind}: {fault.what}"
)
def test_a_fault_ends_in_a_sentence_or_the_right_result(fault, tmp_path):
    outcome, said = faults.plant(fault, tmp_path)
    assert outcome in faults.OUTCOMES[:2], said
