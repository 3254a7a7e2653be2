"""Prints the lines along which a field of numbers has a given height."""

import click
import contourpy
import numpy
from pydantic import BaseModel, Field
from rich import print


class Line(BaseModel):
    """One contour line."""

    height: float
    points: int = Field(gt=1)


def lines(height: float) -> list[Line]:
    across = numpy.linspace(-1, 1, 101)
    field = numpy.hypot(*numpy.meshgrid(across, across))
    generator = contourpy.contour_generator(across, across, field)
    return [Line(height=height, points=len(points)) for points in generator.lines(height)]


@click.command()
@click.argument("height", type=float, default=0.5)
def main(height: float) -> None:
    for line in lines(height):
        print(line)


if __name__ == "__main__":
    main()
