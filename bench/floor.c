/* The floor under every peer: messages that were encoded before the clock started, and nothing else.
 *
 *   floor send FILE      send each piece of the file; seconds, and refusals, on standard output
 *   floor receive FILE   send each piece, a dump's request, and receive to its end without a look inside
 *
 * A file is pieces, each a length (32 bits, this machine's order) and that many bytes.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SO_RCVBUFFORCE_ 33

static char answer[128 * 1024];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static char *contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail(path);
    *size = ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    if (!data || fread(data, 1, *size, file) != *size)
        fail(path);
    fclose(file);
    return data;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* The messages up to the list's end. */
static long receive_all(int talk) {
    for (long messages = 0;;) {
        ssize_t size = recv(talk, answer, sizeof answer, 0);
        if (size < 0)
            fail("recv");
        struct nlmsghdr *one = (struct nlmsghdr *)answer;
        for (; NLMSG_OK(one, size); one = NLMSG_NEXT(one, size)) {
            if (one->nlmsg_type == NLMSG_DONE || one->nlmsg_type == NLMSG_ERROR)
                return messages;
            messages++;
        }
    }
}

static long refusals(int talk) {
    for (long count = 0;; count++)
        if (recv(talk, answer, sizeof answer, MSG_DONTWAIT) < 0)
            return errno == EAGAIN ? count : -1;
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "floor send|receive FILE\n");
        return 2;
    }
    int receives = !strcmp(words[1], "receive"), buffer = 4 << 20;
    size_t size, place = 0;
    char *data = contents(words[2], &size);
    int talk = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (talk < 0 || bind(talk, (struct sockaddr *)&kernel, sizeof kernel))
        fail("socket");
    setsockopt(talk, SOL_SOCKET, SO_RCVBUFFORCE_, &buffer, sizeof buffer);

    long messages = 0;
    double began = seconds();
    while (place + 4 <= size) {
        uint32_t length;
        memcpy(&length, data + place, 4);
        if (send(talk, data + place + 4, length, 0) != (ssize_t)length)
            fail("send");
        place += 4 + length;
        if (receives)
            messages += receive_all(talk);
    }
    double took = seconds() - began;
    printf("%.6f %ld\n", took, receives ? messages : refusals(talk));
    return 0;
}
