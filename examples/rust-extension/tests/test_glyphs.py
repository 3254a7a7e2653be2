import glyphs


def test_count():
    assert glyphs.count("e\u0301") == 1
    assert glyphs.count("") == 0


def test_longest():
    assert glyphs.longest("e\u0301e\u0301 abc") == "abc"
