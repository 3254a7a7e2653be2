import tally


def test_words():
    assert tally.words("To be, or not to be: that's the question.") == 9
