# /// script
# requires-python = ">=3.11"
# dependencies = ["httpx", "rich"]
# ///
"""A script with a lock of its own: `uv lock --script report.py`."""

import httpx
import rich

rich.print(httpx.get("https://example.org").headers)
