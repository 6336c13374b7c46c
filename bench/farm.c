/* All backends of bench/health.py: one socket on every address, which takes connections as cheaply as can be,
 * so that what is measured is who checks. farm tcp|http PORT */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

int main(int argc, char **argv)
{
    int is_http = argc > 2 && !strcmp(argv[1], "http");
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(argc > 2 ? atoi(argv[2]) : 0)};
    struct timeval patience = {.tv_sec = 1};
    char request[4096];

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* A connection is taken when its request is there: this program never waits for a checker. */
    if (is_http)
        setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) {
        perror("farm");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int one = accept(listener, NULL, NULL);
        if (one < 0)
            continue;
        if (is_http) {
            setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
            if (recv(one, request, sizeof request, 0) > 0)
                send(one, answer, sizeof answer - 1, MSG_NOSIGNAL);
        }
        close(one);
    }
}
