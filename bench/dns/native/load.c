// Sends the queries of a file at a fixed rate to COUNT addresses 127.2.x.y in turn, or to 127.0.0.1 alone, and prints
// "sent received p50 p99" (latencies in microseconds).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t sent_at[65536];

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// "name TYPE" to a query with EDNS; returns its length.
static int build(char *line, unsigned char *out)
{
    char *type = strchr(line, ' ');
    *type++ = 0;
    memset(out, 0, 12);
    out[2] = 1;
    out[5] = 1;
    out[11] = 1;
    unsigned char *p = out + 12;
    for (char *label = strtok(line, "."); label; label = strtok(NULL, ".")) {
        *p++ = strlen(label);
        memcpy(p, label, strlen(label));
        p += strlen(label);
    }
    *p++ = 0;
    *p++ = 0;
    *p++ = strncmp(type, "SRV", 3) == 0 ? 33 : 1;
    *p++ = 0;
    *p++ = 1;
    static const unsigned char opt[11] = { 0, 0, 41, 4, 208 };
    memcpy(p, opt, 11);
    return p + 11 - out;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: load FILE PORT ADDRESSES RATE SECONDS\n");
        return 2;
    }
    int port = atoi(argv[2]), addresses = atoi(argv[3]), rate = atoi(argv[4]);
    double seconds = atof(argv[5]);
    static unsigned char queries[16384][256];
    static int lengths[16384];
    int count = 0;
    char line[512];
    FILE *f = fopen(argv[1], "r");
    while (f && count < 16384 && fgets(line, sizeof line, f))
        lengths[count] = build(line, queries[count]), count++;
    if (count == 0)
        return 1;

    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int size = 4 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    long total = (long)(rate * seconds), sent = 0, received = 0;
    float *latency = malloc(sizeof(float) * (total + 1));
    int64_t start = now(), gap = 1000000000LL / rate, end = 0;
    unsigned char buffer[4096];
    while (received < total) {
        int64_t t = now();
        while (sent < total && start + sent * gap <= t) {
            struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
            int a = sent % addresses;
            to.sin_addr.s_addr = htonl(addresses == 1 ? INADDR_LOOPBACK : 0x7F020001 + (a / 250) * 256 + a % 250);
            unsigned char *q = queries[(sent * 7919) % count];
            q[0] = sent >> 8;
            q[1] = sent;
            sent_at[sent & 65535] = now();
            sendto(fd, q, lengths[(sent * 7919) % count], 0, (struct sockaddr *)&to, sizeof to);
            sent++;
        }
        for (;;) {
            ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (n < 2)
                break;
            latency[received++] = (now() - sent_at[(buffer[0] << 8) | buffer[1]]) / 1000.0f;
            if (received == total)
                break;
        }
        if (sent == total && end == 0)
            end = now() + 500000000LL;
        if (end && now() > end)
            break;
    }
    qsort(latency, received, sizeof(float), compare);
    printf("%ld %ld %.1f %.1f\n", sent, received, received ? latency[received / 2] : 0, received ? latency[received * 99 / 100] : 0);
    return 0;
}
