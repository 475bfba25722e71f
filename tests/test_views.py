from ga_audit import views


def test_a_view_is_the_registered_function_of_the_result(monkeypatch):
    monkeypatch.setattr(views, "_VIEWS", {})
    views.register("pair", lambda result, other, *, sep: f"{result}{sep}{other}")
    assert views.show("pair", 1, 2, sep="-") == "1-2"
