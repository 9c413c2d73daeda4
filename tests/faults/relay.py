"""A program that passes TCP connections on to a Unix socket: `relay.py PORT SOCKET`."""

import contextlib
import socket
import sys
import threading


def pass_on(origin: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := origin.recv(1 << 16):
            target.sendall(data)
    for end in (origin, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)  # close alone would not wake the other direction


def main(port: int, path: str) -> None:
    with socket.create_server(("", port)) as server:
        while True:
            near, _ = server.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(path)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()


main(int(sys.argv[1]), sys.argv[2])
