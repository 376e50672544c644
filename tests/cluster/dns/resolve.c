// Prints the addresses that the C library's resolver finds for a name, one a line: built with musl for the tests.
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list;
    if (argc != 2)
        return 2;
    int error = getaddrinfo(argv[1], NULL, &hints, &list);
    if (error) {
        puts(gai_strerror(error));
        return 1;
    }
    for (; list; list = list->ai_next) {
        char text[64];
        getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
        puts(text);
    }
    return 0;
}
