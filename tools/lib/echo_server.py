#!/usr/bin/python3
"""A backend: answers each HTTP request with its own name and the client's address, and prints that line too.

usage: echo_server.py NAME PORT ADDRESS...     bound to these addresses only, as a careful server would be
"""
import http.server
import socket
import sys
import threading


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, name, address, port):
        self.name = name
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)

    def server_bind(self):
        # The base class asks DNS for its own name here, which nothing needs.
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address[:2]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        line = f"{self.server.name} {self.client_address[0]}"
        body = (line + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(line, flush=True)

    def log_message(self, format, *args):
        pass


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    name, port, addresses = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    servers = [Server(name, address, port) for address in addresses]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
