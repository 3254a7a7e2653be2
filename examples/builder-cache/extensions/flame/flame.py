#!/usr/bin/python3
"""Shows folded stacks, as `perf script | stackcollapse-perf.pl` prints them: flame [--port PORT] FILE."""

import argparse
import http.server
from pathlib import Path

PAGES = Path("/usr/local/lib/flame")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = {"/": (PAGES / "flame.html", "text/html"), "/flame.js": (PAGES / "flame.js", "text/javascript"),
                 "/stacks": (stacks, "text/plain")}.get(self.path)
        self.send_response(200 if found else 404)
        body = found[0].read_bytes() if found else b""
        self.send_header("Content-Type", found[1] if found else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("file", type=Path)
options = parser.parse_args()
stacks = options.file
with http.server.ThreadingHTTPServer(("", options.port), Handler) as server:
    server.serve_forever()
