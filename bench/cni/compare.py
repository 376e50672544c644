#!/usr/bin/python3
"""Times CNI ADD and DEL of two plugins on the same node, one after the other in each round.

usage: compare.py ROUNDS [--json]
Both do what a runtime sees: the container has an address and a way out when ADD returns. Ours also has told every node of
the cluster and answers to the container's name by then. A third program that does nothing shows what starting one costs.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.environ["OVERLAYNET_OUT"]
NAME = f"bcni{os.getpid()}-"
DIRECTORY = f"/run/overlaynet-clusters/{NAME.rstrip('-')}"
NODE = f"{NAME}n1"


def run(*command, check=True, **more):
    return subprocess.run(command, check=check, capture_output=True, text=True, **more)


def cluster(*arguments):
    return run("bash", f"{ROOT}/tools/lib/cluster.sh", *arguments)


class Plugin:
    def __init__(self, path, config):
        self.path, self.config = path, config
        self.add, self.delete = [], []

    def call(self, command, container, netns):
        environment = {
            "PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": f"/run/netns/{netns}",
            "CNI_IFNAME": "eth0", "CNI_PATH": "/usr/lib/cni",
        }
        started = time.perf_counter()
        # As a runtime on the node would: in the node's network namespace. nsenter execs, so that its cost is in all alike.
        done = subprocess.run(["nsenter", f"--net=/run/netns/{NODE}", self.path], input=self.config.encode(), env=environment, capture_output=True)
        elapsed = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(f"cni: {command} of {self.path} failed: {done.stdout.decode()}{done.stderr.decode()}")
        (self.add if command == "ADD" else self.delete).append(elapsed * 1000)


def quantiles(values):
    values = sorted(values)
    return {"p50": round(statistics.median(values), 2), "p90": round(values[int(len(values) * 0.9)], 2), "p99": round(values[min(len(values) - 1, int(len(values) * 0.99))], 2)}


def main():
    # Ended from outside, it cleans up all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rounds, as_json = int(sys.argv[1]), "--json" in sys.argv
    cluster("sweep")
    data = f"{DIRECTORY}-host-local"
    try:
        cluster("up", DIRECTORY, NAME, "2", "--owner", str(os.getpid()), "--underlay", "4")
        for node in ("1", "2"):
            cluster("start", DIRECTORY, node)
        cluster("form", DIRECTORY)
        socket = f"{DIRECTORY}/nodes/1/api.sock"
        run(f"{OUT}/overlaynet", "--socket", socket, "network", "create", "--subnet", "10.10.0.0/16", "app")
        ours = Plugin(f"{OUT}/cni/overlaynet", json.dumps({"cniVersion": "1.0.0", "name": "app", "type": "overlaynet", "socket": socket}))
        bridge = Plugin("/usr/lib/cni/bridge", json.dumps({
            "cniVersion": "1.0.0", "name": "peer", "type": "bridge", "bridge": "peer0", "isGateway": True, "ipMasq": False,
            "ipam": {"type": "host-local", "subnet": "10.11.0.0/16", "dataDir": data, "routes": [{"dst": "0.0.0.0/0"}]}}))
        nothing = Plugin("/bin/true", "")
        # One container stays, so that the network is there all the time, as the bridge is after its first.
        for name in ("keep", "a", "b"):
            run("ip", "netns", "add", NAME + name)
            with open(f"{DIRECTORY}/containers", "a", encoding="ascii") as containers:
                containers.write(f"{name}\n")
        ours.call("ADD", "keep", f"{NAME}keep")
        ours.add.clear()
        for number in range(rounds):
            for plugin, netns in ((ours, "a"), (bridge, "b"), (nothing, "b")):
                plugin.call("ADD", f"c{number}", NAME + netns)
            for plugin, netns in ((ours, "a"), (bridge, "b"), (nothing, "b")):
                plugin.call("DEL", f"c{number}", NAME + netns)
        report = {
            "rounds": rounds, "load": os.getloadavg()[0],
            "ratioAddP50": round(statistics.median(ours.add) / statistics.median(bridge.add), 2),
            "ratioDelP50": round(statistics.median(ours.delete) / statistics.median(bridge.delete), 2),
            "milliseconds": {name: {"add": quantiles(plugin.add), "del": quantiles(plugin.delete)} for name, plugin in (("overlaynet", ours), ("bridge+host-local", bridge), ("/bin/true", nothing))},
        }
    finally:
        cluster("down", DIRECTORY)
        run("rm", "-rf", data)
    if as_json:
        print(json.dumps(report))
        return
    print(f"ADD: overlaynet / bridge with host-local = {report['ratioAddP50']} (p50), DEL {report['ratioDelP50']}; {rounds} rounds, load {report['load']:.1f}")
    for name, figures in report["milliseconds"].items():
        print(f"  {name:18} ADD p50 {figures['add']['p50']} p90 {figures['add']['p90']} p99 {figures['add']['p99']} ms; DEL p50 {figures['del']['p50']} ms")


if __name__ == "__main__":
    main()
