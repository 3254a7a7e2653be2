#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static void pass(int number) {
    if (child > 0)
        kill(child, number);
}

/* Runs a program as a container's first process should: passes signals on, and takes in what others leave behind. */
int main(int count, char **arguments) {
    int status, code = 0;
    pid_t ended;
    if (count > 1 && strcmp(arguments[1], "--version") == 0)
        return puts("reap " VERSION) < 0;
    if (count < 2)
        return fputs("usage: reap PROGRAM [ARGUMENT...]\n", stderr), 2;
    signal(SIGTERM, pass);
    signal(SIGINT, pass);
    signal(SIGHUP, pass);
    child = fork();
    if (child == 0) {
        execvp(arguments[1], arguments + 1);
        perror(arguments[1]);
        _exit(127);
    }
    while ((ended = wait(&status)) > 0)
        if (ended == child) {
            code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            break;
        }
    return child < 0 ? 126 : code;
}
