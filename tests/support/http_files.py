"""An HTTP server on this machine that gives out the files of a folder, and keeps some back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Files:
    """What the server was asked for. Of names with "slow" it sends all but the last byte until `go_on` is set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.mended: set[str] = set()
        """Paths that no longer are broken."""


@contextmanager
def serving(folder: Path) -> Iterator[Files]:
    """The server; names with "denied" are 403, with "broken" 500, with "undated" sent without a date."""
    files = Files(folder)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            files.asked.append(self.path)
            for word, status in (("denied", 403), ("broken", 500)):
                if word in self.path and self.path not in files.mended:
                    self.send_error(status)
                    return
            super().do_GET()

        def send_header(self, keyword: str, value: str) -> None:
            if keyword != "Last-Modified" or "undated" not in self.path:
                super().send_header(keyword, value)

        def copyfile(self, source: Any, outputfile: Any) -> None:
            if "slow" not in self.path:
                super().copyfile(source, outputfile)
                return
            body = source.read()
            outputfile.write(body[:-1])
            outputfile.flush()
            files.go_on.wait()
            outputfile.write(body[-1:])

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        files.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield files
        finally:
            files.go_on.set()
            server.shutdown()
            thread.join()
