from ga_audit.output.wording._numbers import percent


def test_a_share_below_a_threshold_never_reads_as_the_threshold():
    assert [percent(p, 0.95) for p in (0.80, 0.934, 0.9499, 0.95, 0.999)] == ["80%", "93%", "94%", "95%", "100%"]
