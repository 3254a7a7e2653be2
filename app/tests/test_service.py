from fastapi.testclient import TestClient

from app import app

client = TestClient(app)


def test_health():
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


def test_the_nearest_items_come_first():
    answer = client.post("/nearest", json={"vector": [1, 0, 0, 0], "count": 2})
    assert [match["name"] for match in answer.json()] == ["violin", "cello"]


def test_similarity_is_the_cosine():
    answer = client.post("/nearest", json={"vector": [9, 1, 0, 2], "count": 1})
    assert abs(answer.json()[0]["similarity"] - 1) < 1e-12


def test_a_vector_of_another_length_is_refused():
    assert client.post("/nearest", json={"vector": [1, 0, 0]}).status_code == 422


def test_a_vector_of_zeros_is_refused():
    answer = client.post("/nearest", json={"vector": [0, 0, 0, 0]})
    assert (answer.status_code, answer.json()["detail"]) == (422, "a vector of zeros has no direction")
