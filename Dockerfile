# overlaynetd in a container, from the package:
#   ./tools/build-deb && docker build -t overlaynet .
# The daemon works on its host, so it runs in the host's network, pid and cgroup namespaces with these capabilities and
# no others; docs/examples/compose.yaml has it all:
#   docker run -d --name overlaynetd --network host --pid host --cgroupns host --restart unless-stopped \
#     --cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW --cap-add NET_BIND_SERVICE --cap-add SYS_ADMIN --cap-add SYS_CHROOT \
#     --cap-add SYS_PTRACE --cap-add SYS_RESOURCE --cap-add SYS_NICE --cap-add IPC_LOCK \
#     --cap-add DAC_OVERRIDE --cap-add DAC_READ_SEARCH --security-opt apparmor=unconfined --security-opt seccomp=unconfined --security-opt systempaths=unconfined \
#     -v /run/overlaynet:/run/overlaynet -v /run/netns:/run/netns:rshared -v /var/lib/overlaynet:/var/lib/overlaynet \
#     -v /etc/overlaynet:/etc/overlaynet:ro -v /sys/fs/bpf:/sys/fs/bpf overlaynet
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS unpacked
COPY out/overlaynet_*.deb /tmp/
# Units and maintainer scripts are a host's business.
RUN set -e; package=$(ls -t /tmp/overlaynet_*.deb | head -n 1); mkdir /tree; dpkg-deb -x "$package" /tree; rm -rf /tree/lib /tree/etc /tree/usr/share/doc

FROM ${BASE}
# Only what the base does not have: a base that is complete needs no network.
RUN set -e; missing=; for package in iproute2 libssl3 ca-certificates; do \
      dpkg-query -W -f '${db:Status-Status}' $package 2>/dev/null | grep -qx installed || missing="$missing $package"; \
    done; \
    [ -z "$missing" ] || { apt-get update -q && apt-get install -y -q --no-install-recommends $missing && rm -rf /var/lib/apt/lists/*; }
COPY --from=unpacked /tree/ /
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/usr/bin/overlaynet", "status"]
ENTRYPOINT ["/usr/sbin/overlaynetd"]
