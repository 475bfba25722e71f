"""Every note has its sentence."""

import pytest

from ga_audit.output.wording.notes import SENTENCES, note
from ga_audit.run import Note, NoteCode


def test_every_code_has_a_sentence():
    assert set(SENTENCES) == set(NoteCode)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Note(NoteCode.NO_ROLE, facts={"name": "a", "points": 3}), "'a' (3 points) has no role here"),
        (Note(NoteCode.NO_STEP, count=2, facts={"name": "loss"}), "'loss': 2 points have no step and are left out"),
        (Note(NoteCode.NO_STEP, count=2, facts={"counter": "step"}), "2 rows have no step and are left out"),
        (
            Note(NoteCode.REPEATED_STEPS, count=3, facts={"name": "loss", "backwards": 1}),
            "'loss': 3 repeated steps, the log goes back (a resume); the last value counts",
        ),
        (Note(NoteCode.TRUNCATED), "the last record is not whole"),
        (Note(NoteCode.TRUNCATED, facts={"byte": 9}), "ends inside a record (byte 9)"),
        (Note(NoteCode.TRUNCATED, facts={"byte": 9, "size": 12}), "ends inside a record: read up to byte 9 of 12"),
        (Note(NoteCode.UNFINISHED, facts={"state": "running"}), "the run is running: its history may grow"),
        (
            Note(NoteCode.CHECKPOINTS_DIFFER, facts={"seed": ("1 in a", "2 in b")}),
            "not taken from checkpoints that differ: seed (1 in a, 2 in b)",
        ),
        (Note("same-factor", "a sentence of its own"), "a sentence of its own"),
    ],
)
def test_sentences(item, text):
    assert note(item) == text
