"""Whatever bytes a file holds, its reader gives a sentence or what such a file can hold."""

from hypothesis import given
from hypothesis import strategies as st

from tests import faults
from tests.faults import damage

KINDS = st.sampled_from(damage.KINDS)


def assert_ends_well(kind: damage.Kind, change) -> None:
    outcome, said = faults.planted(damage.damaged(kind, change, "0"))
    assert outcome in faults.OUTCOMES[:2], said


@given(KINDS, st.binary(max_size=300))
def test_any_bytes_instead_of_a_file(kind, held):
    def instead(data, draw):
        return held

    assert_ends_well(kind, instead)


@given(KINDS, st.lists(st.sampled_from([*damage.DRAWN, damage.add]), min_size=1, max_size=4),
       st.randoms(use_true_random=False))  # fmt: skip
def test_any_changes_of_a_file(kind, changes, draw):
    def changed(data, _):
        for change in changes:
            data = change(data, draw) if len(data) > 1 else data
        return data

    assert_ends_well(kind, changed)


@given(KINDS, st.text(max_size=300), st.sampled_from(["utf-8", "utf-16", "latin-1", "utf-8-sig"]))
def test_any_text_instead_of_a_file(kind, text, encoding):
    def instead(data, draw):
        return text.encode(encoding, "replace")

    assert_ends_well(kind, instead)
