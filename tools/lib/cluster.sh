#!/usr/bin/env bash
# Clusters made of network namespaces on one machine: the one layout that quick start, tests and benchmarks share.
# Run it (cluster.sh VERB ...) or source it (cluster_VERB ...).
#
#   up DIR PREFIX NODES [--owner PID] [--underlay 4|6]   underlay, outside host and nodes; daemons are not started
#   start DIR N | stop DIR N | kill DIR N        node N's daemon: start and wait for its socket, end with TERM, with KILL
#   form DIR                                     init on node 1, join on the others
#   container DIR NAME                           a namespace PREFIX+NAME with its loopback up
#   spawn DIR NAME NAMESPACE CMD...              a process inside a namespace, ended by 'down' or 'reap DIR NAME'
#   reap DIR NAME
#   down DIR                                     everything the cluster made, daemons and their namespaces included
#   sweep                                        down for every cluster whose owner is dead
#
# Namespaces (all links are made inside them, nothing is named in the host's):
#   PREFIXlan     bridge br0, the underlay's switch
#   PREFIXnN      node N: eth0 192.0.2.N/24 and 2001:db8:2::N/64, default route to the outside host
#   PREFIXout     the outside host: eth0 192.0.2.254 and 2001:db8:2::fe, beyond it 198.51.100.1 and 2001:db8:51::1 (on lo)
#   PREFIXNAME    containers
# Files: DIR/prefix, DIR/owner (pid and start time, or '-'), DIR/underlay, DIR/nodes/N/{config.yaml,api.sock,state/,daemon.log,daemon.pid},
#   DIR/nodes/N/environment (variables of the daemon, NAME=VALUE a line; optional), DIR/nodes/N/programs (where its daemon is, when
#   it is another release; optional),
#   DIR/processes/NAME.{pid,log}, DIR/containers.
# OVERLAYNET_OUT is where overlaynetd and overlaynet are (default: out/ of this tree).

CLUSTER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CLUSTER_OUT=${OVERLAYNET_OUT:-$CLUSTER_ROOT/out}
CLUSTER_RUNS=/run/overlaynet-clusters

cluster_prefix() { cat "$1/prefix"; }
cluster_socket() { echo "$1/nodes/$2/api.sock"; }
cluster_cli() { local dir=$1 node=$2; shift 2; "$CLUSTER_OUT/overlaynet" --socket "$(cluster_socket "$dir" "$node")" "$@"; }

# The address of node N on the underlay family that the cluster's VTEPs use.
cluster_address() { if [ "$(cat "$1/underlay")" = 6 ]; then echo "2001:db8:2::$2"; else echo "192.0.2.$2"; fi; }

# Field 22 of /proc/PID/stat: with the pid it names one process for ever.
cluster_start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

cluster_up() {
    local dir=$1 prefix=$2 nodes=$3 owner=- underlay=4 n
    shift 3
    while [ $# -gt 0 ]; do
        case $1 in
            --owner) owner="$2 $(cluster_start_time "$2")" ;;
            --underlay) underlay=$2 ;;
            *) echo "cluster.sh: up: unknown option $1" >&2; return 2 ;;
        esac
        shift 2
    done
    [ ! -e "$dir" ] || { echo "cluster.sh: $dir exists: 'down' it first" >&2; return 1; }
    # All at once: a sweep must never find a cluster without its owner and prefix.
    rm -rf "$dir.new"
    mkdir -p "$dir.new/nodes" "$dir.new/processes"
    echo "$prefix" >"$dir.new/prefix"
    echo "$owner" >"$dir.new/owner"
    echo "$underlay" >"$dir.new/underlay"
    : >"$dir.new/containers"
    mv "$dir.new" "$dir" || return 1

    ip netns add "${prefix}lan" || return 1
    ip -n "${prefix}lan" -batch - <<BATCH || return 1
link set lo up
link add br0 type bridge mcast_snooping 0
link set br0 up
BATCH
    cluster_plug "$prefix" out 254 fe || return 1
    ip -n "${prefix}out" -batch - <<BATCH || return 1
addr add 198.51.100.1/32 dev lo
addr add 2001:db8:51::1/128 dev lo nodad
BATCH
    for n in $(seq "$nodes"); do
        cluster_plug "$prefix" "n$n" "$n" "$n" || return 1
        ip -n "${prefix}n$n" -batch - <<BATCH || return 1
route add default via 192.0.2.254
route add default via 2001:db8:2::fe
BATCH
        cluster_configure "$dir" "$n"
    done
}

# A namespace with eth0 on the underlay's switch.
cluster_plug() {
    local prefix=$1 name=$2 host4=$3 host6=$4
    ip netns add "$prefix$name" || return 1
    # Router advertisements and address detection have no place on a wire of our own, and cost a second each.
    ip netns exec "$prefix$name" sysctl -q -w net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0 || return 1
    ip -n "${prefix}lan" -batch - <<BATCH || return 1
link add $name type veth peer name eth0 netns $prefix$name
link set $name master br0
link set $name up
BATCH
    ip -n "$prefix$name" -batch - <<BATCH
link set lo up
addr add 192.0.2.$host4/24 dev eth0
addr add 2001:db8:2::$host6/64 dev eth0 nodad
link set eth0 up
BATCH
}

cluster_configure() {
    local dir=$1 n=$2 node=$1/nodes/$2
    mkdir -p "$node/state"
    cat >"$node/config.yaml" <<YAML
state: $node/state
socket: $node/api.sock
node:
  name: node$n
  address: $(cluster_address "$dir" "$n")
dns:
  upstreams: [198.51.100.1]
docker:
  plugin: $node/docker/plugins/overlaynet.sock
  socket: $node/docker/docker.sock
log:
  level: information
YAML
}

cluster_start() {
    local dir=$1 n=$2 node=$1/nodes/$2 out=$CLUSTER_OUT prefix i environment=()
    prefix=$(cluster_prefix "$dir")
    rm -f "$node/api.sock"
    [ ! -e "$node/environment" ] || mapfile -t environment <"$node/environment"
    [ ! -e "$node/programs" ] || out=$(cat "$node/programs")
    # nsenter, not 'ip netns exec': the daemon needs the host's mounts to pin namespaces in.
    setsid nsenter --net="/run/netns/${prefix}n$n" env "${environment[@]}" "$out/overlaynetd" --config "$node/config.yaml" >>"$node/daemon.log" 2>&1 </dev/null &
    echo $! >"$node/daemon.pid"
    # Its end is nothing for the shell to report.
    disown $!
    for i in $(seq 300); do
        if [ -S "$node/api.sock" ] && curl -s -o /dev/null --max-time 2 --unix-socket "$node/api.sock" http://localhost/v1/status; then
            return 0
        fi
        if ! kill -0 "$(cat "$node/daemon.pid")" 2>/dev/null; then
            echo "cluster.sh: the daemon of node $n ended at once:" >&2
            tail -n 5 "$node/daemon.log" >&2
            return 1
        fi
        sleep 0.05
    done
    echo "cluster.sh: the daemon of node $n does not answer on $node/api.sock" >&2
    return 1
}

cluster_form() {
    local dir=$1 n token
    cluster_cli "$dir" 1 init --address "$(cluster_address "$dir" 1)" --name node1 >/dev/null || return 1
    token=$(cluster_cli "$dir" 1 token show --quiet worker) || return 1
    for n in $(cd "$dir/nodes" && ls | sort -n | tail -n +2); do
        cluster_cli "$dir" "$n" join --token "$token" --address "$(cluster_address "$dir" "$n")" --name "node$n" "$(cluster_host "$dir" 1)" >/dev/null || return 1
    done
}

cluster_host() { if [ "$(cat "$1/underlay")" = 6 ]; then echo "[$(cluster_address "$1" "$2")]"; else cluster_address "$1" "$2"; fi; }

# Ends the process of a pid file with a signal and waits until it is gone; the pid file goes too.
cluster_end() {
    local file=$1 signal=$2 pid i
    pid=$(cat "$file" 2>/dev/null) || return 0
    rm -f "$file"
    kill "-$signal" "$pid" 2>/dev/null || return 0
    for i in $(seq 200); do
        # A zombie whose other threads have not ended yet still holds its sockets.
        ! awk '/^State:/ { zombie = $2 == "Z" } /^Threads:/ { threads = $2 } END { exit !(NR && !(zombie && threads <= 1)) }' "/proc/$pid/status" 2>/dev/null && return 0
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null
    return 0
}

cluster_stop() { cluster_end "$1/nodes/$2/daemon.pid" TERM; }
cluster_kill() { cluster_end "$1/nodes/$2/daemon.pid" KILL; }

cluster_container() {
    local dir=$1 name=$2 prefix
    prefix=$(cluster_prefix "$dir")
    # Noted before it is there, so that nobody who dies in between leaves it behind.
    grep -qx "$name" "$dir/containers" || echo "$name" >>"$dir/containers"
    ip netns add "$prefix$name" || return 1
    ip -n "$prefix$name" link set lo up
}

cluster_spawn() {
    local dir=$1 name=$2 namespace=$3
    shift 3
    setsid ip netns exec "$namespace" "$@" >>"$dir/processes/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/processes/$name.pid"
    disown $!
}

cluster_reap() { cluster_end "$1/processes/$2.pid" TERM; }

# Removes a namespace by name: ends what runs inside, which would keep it alive.
cluster_remove_namespace() {
    local name=$1 pids
    [ -e "/run/netns/$name" ] || return 0
    pids=$(ip netns pids "$name" 2>/dev/null) && [ -n "$pids" ] && kill -KILL $pids 2>/dev/null
    ip netns del "$name" 2>/dev/null || rm -f "/run/netns/$name"
    rm -rf "/etc/netns/$name"
}

# Ends what a test's container runtimes left behind and unmounts what they mounted: their programs name the cluster's
# directory, and the root file systems of their containers lie in it.
cluster_end_runtimes() {
    local dir=$1 file
    ls "$dir"/nodes/*/docker/dockerd.log >/dev/null 2>&1 || return 0
    for file in $(grep -lsF "$dir/nodes/" /proc/[0-9]*/cmdline; grep -lsE "^[0-9]+ [0-9]+ [^ ]+ [^ ]+ / .*upperdir=$dir/" /proc/[0-9]*/mountinfo); do
        file=${file#/proc/}
        [ "${file%%/*}" = $$ ] || kill -KILL "${file%%/*}" 2>/dev/null
    done
    awk '{ print $5 }' /proc/self/mountinfo | grep -F "$dir/" | sort -r | xargs -r -n 1 umount -l
    return 0
}

# What is mounted below its nodes' directories; nothing is no failure, also where 'set -e -o pipefail' is on.
cluster_mounts() { awk -v below="$1/nodes/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo; }

cluster_down() {
    local dir=$1 prefix n id name file
    [ -d "$dir" ] || return 0
    prefix=$(cluster_prefix "$dir")
    # A frozen file system would hold everything that follows.
    cluster_mounts "$dir" | awk '/\/state$/' | xargs -r -n 1 fsfreeze --unfreeze 2>/dev/null || true
    for file in "$dir"/processes/*.pid; do [ -e "$file" ] && cluster_end "$file" KILL; done
    for n in $(ls "$dir/nodes"); do cluster_kill "$dir" "$n"; done
    cluster_end_runtimes "$dir"
    for name in $(cat "$dir/containers"); do cluster_remove_namespace "$prefix$name"; done
    for n in $(ls "$dir/nodes"); do
        # What the node's daemon made carries the beginning of its id.
        for id in $(grep -ohE '"nodeId": *"[^"]+"' "$dir/nodes/$n/state/identity/node.json" 2>/dev/null | cut -d'"' -f4); do
            for name in $(ls /run/netns 2>/dev/null | grep "^on-${id:0:6}-"); do cluster_remove_namespace "$name"; done
            # The last pin of a BPF link detaches it.
            rm -rf "/sys/fs/bpf/overlaynet/${id:0:6}" /sys/fs/bpf/overlaynet-vip/"${id:0:6}"-*
        done
        cluster_remove_namespace "${prefix}n$n"
    done
    cluster_remove_namespace "${prefix}out"
    cluster_remove_namespace "${prefix}lan"
    cluster_mounts "$dir" | sort -r | xargs -r -n 1 umount -l || true
    rm -rf "$dir"
}

cluster_sweep() {
    local dir pid start
    for dir in "$CLUSTER_RUNS"/*/; do
        dir=${dir%/}
        # Half laid: nothing is made before it has its name.
        case $dir in *.new) [ -z "$(find "$dir" -maxdepth 0 -mmin +1)" ] || rm -rf "$dir"; continue ;; esac
        [ -f "$dir/owner" ] || continue
        read -r pid start <"$dir/owner"
        # '-' is nobody's: such a cluster stays until it is taken down.
        [ "$pid" != - ] && [ "$(cluster_start_time "$pid")" != "$start" ] && cluster_down "$dir"
    done
    return 0
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -uo pipefail
    verb=${1:-}
    case $verb in
        up | start | stop | kill | form | container | spawn | reap | down | sweep) shift; "cluster_$verb" "$@" ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" ;;
        *) echo "cluster.sh: unknown verb '$verb'; see --help" >&2; exit 2 ;;
    esac
fi
