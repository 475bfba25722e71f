import pickle

from ga_audit.errors import AuditError, ExitCode, UnreadableLog


def test_text_says_place_and_remedy():
    error = AuditError("is empty", where="a.json", remedy="Give another.")
    assert str(error) == "a.json: is empty Give another."


def test_survives_a_process_pool():
    copy = pickle.loads(pickle.dumps(UnreadableLog("broken", where="x:3", remedy="Mend it.")))
    assert (type(copy), copy.message, copy.where, copy.remedy) == (UnreadableLog, "broken", "x:3", "Mend it.")


def test_found_and_broke_are_different_numbers():
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 70, 130]
    assert ExitCode.USAGE == 2
