/* Load for the VIP benchmark: a server that echoes, and a client that counts. Built by bench/vip/run.
 *   load server ADDRESS PORT
 *   load conn ADDRESSES PORT SECONDS     connect, one request, close; one at a time
 *   load req ADDRESSES PORT SECONDS      requests on twelve connections, one at a time
 * ADDRESSES are one or several with commas between, taken in turns.
 * The client prints: count, seconds, CPU nanoseconds of itself, median and 99th percentile of the connect (or request) in nanoseconds, errors.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, SAMPLES = 1 << 20, CONNECTIONS = 12, ADDRESSES = 8 };

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static socklen_t parse(const char *text, int port, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return sizeof *v6;
    }
    fprintf(stderr, "load: '%s' is not an address\n", text);
    exit(2);
}

static int serve(const struct sockaddr_storage *address, socklen_t length)
{
    int one = 1, listener = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (const struct sockaddr *)address, length) || listen(listener, 4096)) {
        perror("load: listen");
        return 1;
    }
    struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    event = (struct epoll_event){ .events = EPOLLIN, .data.fd = fd };
                    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            char buffer[4096];
            ssize_t got = read(fd, buffer, sizeof buffer);
            if (got <= 0 ? errno != EAGAIN || got == 0 : write(fd, buffer, (size_t)got) < 0)
                close(fd);
        }
    }
}

static int open_connection(const struct sockaddr_storage *address, socklen_t length)
{
    int one = 1, fd = socket(address->ss_family, SOCK_STREAM, 0);
    /* Closing by reset leaves no TIME_WAIT behind, which would use up the ports within seconds. */
    struct linger linger = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)address, length) == 0)
        return fd;
    close(fd);
    return -1;
}

static int ask(int fd)
{
    char buffer[SIZE] = "request";
    if (write(fd, buffer, SIZE) != SIZE)
        return -1;
    for (ssize_t have = 0, got; have < SIZE; have += got) {
        if ((got = read(fd, buffer, SIZE)) <= 0)
            return -1;
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int count, char **arguments)
{
    struct sockaddr_storage addresses[ADDRESSES];
    if (count < 4)
        return fprintf(stderr, "usage: load server|conn|req ADDRESS PORT [SECONDS]\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    socklen_t length = 0;
    size_t targets = 0;
    for (char *text = strtok(arguments[2], ","); text && targets < ADDRESSES; text = strtok(NULL, ","))
        length = parse(text, atoi(arguments[3]), &addresses[targets++]);
    if (!targets)
        return fprintf(stderr, "load: no address\n"), 2;
    if (!strcmp(arguments[1], "server"))
        return serve(&addresses[0], length);
    int requests = !strcmp(arguments[1], "req"), fds[CONNECTIONS];
    double seconds = count > 4 ? atof(arguments[4]) : 1;
    uint32_t *samples = malloc(SAMPLES * sizeof *samples);
    size_t done = 0;
    unsigned long errors = 0;
    for (int i = 0; requests && i < CONNECTIONS; i++) {
        if ((fds[i] = open_connection(&addresses[i % targets], length)) < 0)
            return perror("load: connect"), 1;
    }
    uint64_t cpu = now(CLOCK_PROCESS_CPUTIME_ID), start = now(CLOCK_MONOTONIC), end = start + (uint64_t)(seconds * 1e9), at = start;
    while (at < end) {
        int fd = requests ? fds[done % CONNECTIONS] : open_connection(&addresses[done % targets], length);
        uint64_t connected = requests ? 0 : now(CLOCK_MONOTONIC);
        if (fd < 0 || ask(fd) < 0)
            errors++;
        if (!requests && fd >= 0)
            close(fd);
        uint64_t after = now(CLOCK_MONOTONIC);
        if (done < SAMPLES)
            samples[done] = (uint32_t)((requests ? after : connected) - at);
        done++;
        at = now(CLOCK_MONOTONIC);
    }
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    size_t kept = done < SAMPLES ? done : SAMPLES;
    qsort(samples, kept, sizeof *samples, compare);
    printf("%zu %.6f %llu %u %u %lu\n", done, (double)(at - start) / 1e9, (unsigned long long)cpu, samples[kept / 2], samples[kept * 99 / 100], errors);
    return 0;
}
