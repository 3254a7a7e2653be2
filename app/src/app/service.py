"""The web service's routes."""

import sys
from typing import Annotated

import fastapi
import numpy
from annotated_types import Len
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field, FiniteFloat

from app.catalogue import Catalogue

catalogue = Catalogue.load()
app = FastAPI(title="nearest")


class Query(BaseModel):
    """A vector, and how many items are wanted."""

    vector: Annotated[list[FiniteFloat], Len(catalogue.dimensions, catalogue.dimensions)]
    count: int = Field(default=3, ge=1, le=100)


class Match(BaseModel):
    """An item and its cosine similarity, -1 to 1."""

    name: str
    similarity: float


@app.get("/health")
def health() -> dict[str, str]:
    """What runs here; also the proof that the compiled packages load."""
    return {
        "status": "ok",
        "python": ".".join(map(str, sys.version_info[:3])),
        "fastapi": fastapi.__version__,
        "numpy": numpy.__version__,
    }


@app.post("/nearest")
def nearest(query: Query) -> list[Match]:
    """The catalogue's items that are nearest to the vector."""
    try:
        found = catalogue.nearest(query.vector, query.count)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return [Match(name=name, similarity=similarity) for name, similarity in found]
