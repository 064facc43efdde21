// shim: gives a client that knows no proxies a tunnel through one. Listens on argument 1; for each connection it connects to
// 127.0.0.1:argument 2, sends "CONNECT argument-3", and after the answer passes bytes both ways. Without argument 3 it passes bytes
// at once, so that a direct run has the same extra hop. One thread per direction: a handful of connections. Loopback only.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int to;
static const char *authority;
typedef struct { int from, to; } way;

static void *pass(void *arg) {
    way w = *(way *)arg;
    char buf[65536];
    ssize_t n;
    free(arg);
    while ((n = recv(w.from, buf, sizeof buf, 0)) > 0)
        for (ssize_t o = 0, k; o < n; o += k)
            if ((k = send(w.to, buf + o, n - o, MSG_NOSIGNAL)) <= 0) { n = -1; break; }
    shutdown(w.to, SHUT_WR); shutdown(w.from, SHUT_RD);   // both descriptors stay open: the other direction may still use them
    return 0;
}
static void start(int from, int dest) {
    way *w = malloc(sizeof *w);
    pthread_t t;
    w->from = from; w->to = dest;
    if (pthread_create(&t, 0, pass, w)) exit(1);
    pthread_detach(t);
}
static int listener(int port) {
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, 4);
    if (bind(l, (void *)&a, sizeof a) || listen(l, 512)) { perror("bind"); exit(1); }
    return l;
}
int main(int c, char **v) {
    signal(SIGPIPE, SIG_IGN);
    to = atoi(v[2]); authority = c > 3 ? v[3] : 0;
    for (int l = listener(atoi(v[1])), one = 1;;) {
        int f = accept(l, 0, 0), d = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        if (f < 0 || connect(d, (void *)&a, sizeof a)) { close(f); close(d); continue; }
        setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &one, 4); setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &one, 4);
        if (authority) {
            char h[4096]; int n = snprintf(h, sizeof h, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority), r = 0, k;
            if (send(d, h, n, MSG_NOSIGNAL) != n) { close(f); close(d); continue; }
            memset(h, 0, sizeof h);
            while (r < (int)sizeof h - 1 && !strstr(h, "\r\n\r\n") && (k = recv(d, h + r, 1, 0)) > 0) r += k;
            if (strncmp(h + 9, "200", 3)) { close(f); close(d); continue; }
        }
        start(f, d); start(d, f);
    }
}
