"""A UDP path that can be shut, as a firewall does, and a TCP path that can be cut."""

import contextlib
import socket
import threading


class Path:
    """Carries datagrams between clients and a server's UDP port, while it is open.

    Attributes:
        port: where clients send to.
    """

    def __init__(self, to_port):
        self._to = ("127.0.0.1", to_port)
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self.port = self._front.getsockname()[1]
        self.is_open = True
        self._backs = {}
        self._closing = False
        self._thread = threading.Thread(target=self._carry_requests, daemon=True)
        self._thread.start()

    def _carry_requests(self):
        while not self._closing:
            with contextlib.suppress(OSError):
                data, client = self._front.recvfrom(65536)
                if client not in self._backs:
                    self._backs[client] = self._back(client)
                if self.is_open:
                    self._backs[client].send(data)

    def _back(self, client):
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        back.connect(self._to)
        threading.Thread(target=self._carry_answers, args=(back, client), daemon=True).start()
        return back

    def _carry_answers(self, back, client):
        while not self._closing:
            with contextlib.suppress(OSError):
                data = back.recv(65536)
                if self.is_open:
                    self._front.sendto(data, client)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._closing = True
        # a datagram of its own ends the wait for the next one
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._front.close()
        for back in self._backs.values():
            with contextlib.suppress(OSError):
                back.shutdown(socket.SHUT_RDWR)
            back.close()


class TcpPath:
    """Carries TCP connections to a server's port, while it is open; ends them when it is not.

    Attributes:
        port: where clients connect to.
    """

    def __init__(self, to_port):
        self._to = ("127.0.0.1", to_port)
        self._front = socket.create_server(("127.0.0.1", 0))
        self.port = self._front.getsockname()[1]
        self._lock = threading.Lock()
        self._is_open = True
        self._closing = False
        self._sockets = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def is_open(self):
        return self._is_open

    @is_open.setter
    def is_open(self, is_open):
        with self._lock:
            self._is_open = is_open
            sockets = [] if is_open else self._sockets
            for end in sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while not self._closing:
            front, _ = self._front.accept()
            with self._lock:
                self._sockets.append(front)
                if not self._is_open:
                    front.shutdown(socket.SHUT_RDWR)
                    continue
                back = socket.create_connection(self._to)
                self._sockets.append(back)
            for ends in ((front, back), (back, front)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.is_open = False
        # a connection of its own ends the wait for the next one
        self._closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._front.close()
        for end in self._sockets:
            end.close()
