import pytest

from app.catalogue import Catalogue


def test_equal_items_keep_their_order(tmp_path):
    path = tmp_path / "catalogue.json"
    path.write_text('{"b": [1, 0], "a": [2, 0], "c": [0, 1]}')
    assert [name for name, _ in Catalogue.load(path).nearest([1, 0], 3)] == ["b", "a", "c"]


def test_a_catalogue_with_a_vector_of_zeros_is_refused(tmp_path):
    path = tmp_path / "catalogue.json"
    path.write_text('{"a": [0, 0]}')
    with pytest.raises(ValueError, match="no direction"):
        Catalogue.load(path)
