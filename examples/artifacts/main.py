"""Says how many words a text has, as a line of HTML: of tally's Rust and markupsafe's C."""

import sys

import tally
from markupsafe._speedups import _escape_inner  # The compiled half, which markupsafe can do without.

text = " ".join(sys.argv[1:]) or "fish & chips"
print(f"<p>{_escape_inner(text)}: {tally.words(text)} words</p>")
