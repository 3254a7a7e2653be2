import click

from glyphs import count, longest


@click.command()
@click.argument("text")
def main(text: str) -> None:
    """Says how many letters a text has, and its longest word."""
    click.echo(f"{count(text)} {longest(text)}")
