"""A web server on a socket that it was given; asked to stop, it finishes what it has begun."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from regrow import workers


class Page(BaseHTTPRequestHandler):
    """One page for everybody."""

    def do_GET(self) -> None:
        """Say who answers."""
        text = f"{os.environ['REGROW_NAME']} of {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """Binds nothing: the socket listens already."""

    daemon_threads = False  # an orderly end waits for the requests that are being answered

    def __init__(self) -> None:
        listener = workers.sockets()["web"]
        super().__init__(listener.getsockname(), Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.socket.setblocking(False)  # a visitor may go to the other replica: then there is nothing to accept

    def service_actions(self) -> None:
        """Called at least twice a second."""
        workers.progress()


def serve() -> None:
    """Until SIGTERM."""
    server = Server()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    workers.ready()
    server.serve_forever()
    server.server_close()
