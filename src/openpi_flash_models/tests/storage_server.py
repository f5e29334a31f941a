"""An object store on a real socket: Google's listing and media endpoints, the hub's, and faults."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from openpi_flash_models.downloads.crc32c import Crc32c


@dataclass
class Store:
    """What the server has, and what goes wrong with it.

    Attributes:
        objects: bytes by ``bucket/name`` (or, for the hub, ``org/repo/name``).
        cut: names whose next answers stop after so many bytes, in order.
        status: names whose next answers are an HTTP status, in order.
        no_ranges: names that are always sent from the beginning.
        garbled: names whose next answer has wrong bytes.
        composite: names of which there is no MD5.
        page: objects per page of a listing.
        lengths: what an answer to HEAD says instead of the true length, by name.
        requests: every media request, by name, with its range.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    status: dict[str, list[int]] = field(default_factory=dict)
    no_ranges: set[str] = field(default_factory=set)
    garbled: Counter[str] = field(default_factory=Counter)
    composite: set[str] = field(default_factory=set)
    page: int = 1000
    requests: list[tuple[str, str]] = field(default_factory=list)
    lengths: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    wrong_sums: set[str] = field(default_factory=set)


def serve(store):
    """Start a server; returns it, and its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            name, _ = self._name()
            if name not in store.objects:
                self._send(404, b"")
                return
            self._send(200, store.objects[name], name=name, body=False)

        def do_GET(self):
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            if parts.path.startswith("/storage/v1/b/") and parts.path.endswith("/o"):
                self._list(unquote(parts.path.split("/")[4]), query)
            elif parts.path.startswith("/api/models/"):
                self._hub_info(parts.path)
            else:
                self._media()

        def _name(self):
            path = urlsplit(self.path).path
            if path.startswith("/storage/v1/b/"):
                _, _, _, _, bucket, _, name = path.split("/", 6)
                return f"{unquote(bucket)}/{unquote(name)}", "gs"
            names = [unquote(part) for part in path.strip("/").split("/")]
            if "resolve" in names:
                return "/".join(names[:2] + names[4:]), "hf"
            return "/".join(names), "https"

        def _list(self, bucket, query):
            prefix = f"{bucket}/{query['prefix']}"
            names = sorted(name for name in store.objects if name.startswith(prefix))
            if store.status.get(bucket):
                self._send(store.status[bucket].pop(0), b"{}")
                return
            start = int(query.get("pageToken", 0))
            items = [self._item(name) for name in names[start : start + store.page]]
            page = {"items": items} if items else {}
            if start + store.page < len(names):
                page["nextPageToken"] = str(start + store.page)
            self._send(200, json.dumps(page).encode())

        def _item(self, name):
            data = store.objects[name]
            item = {"name": name.split("/", 1)[1], "size": str(len(data)), "generation": "7"}
            crc = Crc32c()
            crc.update(data + (b"x" if name in store.wrong_sums else b""))
            item["crc32c"] = crc.digest()
            if name not in store.composite:
                md5 = hashlib.md5(data + (b"x" if name in store.wrong_sums else b"")).digest()
                item["md5Hash"] = base64.b64encode(md5).decode()
            return item

        def _hub_info(self, path):
            repository = "/".join(path.split("/")[3:5])
            names = [n for n in store.objects if n.startswith(f"{repository}/")]
            if not names:
                self._send(404, b'{"error": "Repository not found"}', repo_error="RepoNotFound")
                return
            siblings = [{"rfilename": name.split("/", 2)[2]} for name in names]
            info = {"id": repository, "modelId": repository, "sha": "a" * 40, "siblings": siblings}
            if "/tree/" in path:
                tree = [
                    {
                        "type": "file",
                        "path": n.split("/", 2)[2],
                        "oid": "b" * 40,
                        "size": len(store.objects[n]),
                    }
                    for n in names
                ]
                self._send(200, json.dumps(tree).encode())
                return
            self._send(200, json.dumps(info).encode())

        def _media(self):
            name, _ = self._name()
            with store.lock:
                store.requests.append((name, self.headers.get("Range", "")))
                failures = store.status.get(name)
                status = failures.pop(0) if failures else 0
                cuts = store.cut.get(name)
                cut = cuts.pop(0) if cuts else None
                garble = store.garbled[name] > 0
                store.garbled[name] -= garble
            if status or name not in store.objects:
                self._send(status or 404, b"no")
                return
            self._send(200, store.objects[name], name=name, cut=cut, garble=garble)

        def _send(self, status, data, *, name="", body=True, cut=None, garble=False, repo_error=""):
            first = 0
            span = self.headers.get("Range", "")
            if status == 200 and name and span and name not in store.no_ranges:
                first = int(span.removeprefix("bytes=").split("-")[0])
                status = 206 if first < len(data) else 416
            payload = data[first:] if status != 416 else b""
            self.send_response(status)
            length = str(len(payload)) if body else store.lengths.get(name, str(len(payload)))
            self.send_header("Content-Length", length)
            if repo_error:
                self.send_header("X-Error-Code", repo_error)
            if name:
                self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", "a" * 40)
            self.end_headers()
            if not body:
                return
            if garble:
                payload = bytes(len(payload))
            if cut is not None:
                self.wfile.write(payload[:cut])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(payload)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"
