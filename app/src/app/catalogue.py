"""The catalogue: named vectors of one length, held as a matrix of unit rows."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DEFAULT = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True)
class Catalogue:
    names: tuple[str, ...]
    rows: np.ndarray

    @classmethod
    def load(cls, path: Path = DEFAULT) -> "Catalogue":
        """Reads a JSON object of name to vector; a vector of zeros or of another length is a ValueError."""
        items: dict[str, list[float]] = json.loads(path.read_text("utf-8"))
        rows = np.array(list(items.values()), dtype=np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.all(lengths > 0):
            raise ValueError(f"{path}: a vector of zeros has no direction")
        return cls(tuple(items), rows / lengths)

    @property
    def dimensions(self) -> int:
        return self.rows.shape[1]

    def nearest(self, vector: list[float], count: int) -> list[tuple[str, float]]:
        """Names and cosine similarities, the nearest first; equal ones in the catalogue's order."""
        query = np.asarray(vector, dtype=np.float64)
        length = np.linalg.norm(query)
        if not length > 0:
            raise ValueError("a vector of zeros has no direction")
        similarities = self.rows @ (query / length)
        order = np.argsort(-similarities, kind="stable")[:count]
        return [(self.names[i], float(similarities[i])) for i in order]
