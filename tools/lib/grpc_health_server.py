#!/usr/bin/python3
"""A gRPC server that answers grpc.health.v1.Health/Check with what a file says: its first line is a ServingStatus number.

usage: grpc_health_server.py ADDRESS PORT FILE
"""
import sys
from concurrent import futures

import grpc


class Health(grpc.GenericRpcHandler):
    def __init__(self, path):
        self.path = path

    def service(self, details):
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, request, context):
        with open(self.path) as file:
            status = int(file.readline())
        print(f"asked for {request.hex()}", flush=True)
        return bytes([0x08, status])


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    address, port, path = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2), handlers=[Health(path)])
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


main()
