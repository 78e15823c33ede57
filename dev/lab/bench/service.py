"""A service that can fail: echoes datagrams on the service address (UDP, RFC 862).

    service.py ADDRESS PORT PIDFILE

Run by path in an isolated interpreter, so it imports the standard library only.
"""

from __future__ import annotations

import os
import socket
import sys

FREE_BIND = 15  # IP_FREEBIND of ip(7): the address may come later


def main() -> None:
    address, port, path = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, FREE_BIND, 1)
        sock.bind((address, int(port)))
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            data, sender = sock.recvfrom(2048)
            sock.sendto(data, sender)


if __name__ == "__main__":
    main()
