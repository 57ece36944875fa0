"""A metadata server on the loopback, as a Cloud TPU VM has one."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def metadata_server(attributes: Mapping[str, str]) -> Iterator[str]:
    """host:port of one that has these attributes of a TPU VM."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            prefix = "/computeMetadata/v1/instance/attributes/"
            value = attributes.get(self.path.removeprefix(prefix))
            known = self.headers["Metadata-Flavor"] == "Google" and value is not None
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write((value or "").encode())

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
