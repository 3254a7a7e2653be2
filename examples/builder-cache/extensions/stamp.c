#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

/* Puts the seconds since its start before each line. */
int main(int count, char **arguments) {
    double began = now();
    char *line = NULL;
    size_t room = 0;
    if (count > 1 && strcmp(arguments[1], "--version") == 0)
        return puts("stamp " VERSION) < 0;
    while (getline(&line, &room, stdin) > 0) {
        printf("%10.3f  %s", now() - began, line);
        fflush(stdout);
    }
    return 0;
}
