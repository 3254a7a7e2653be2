// The first process of a container: starts a command, hands it the signals that it gets, and waits for every process
// that loses its parent. Ends as the command does.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t command;

static void hand_on(int signal) {
    if (command > 0)
        kill(command, signal);
}

int main(int count, char **arguments) {
    if (count < 2 || strcmp(arguments[1], "--version") == 0) {
        puts("init 1.0: init COMMAND [ARGUMENT...]");
        return count < 2 ? 2 : 0;
    }
    const int handed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
    struct sigaction action = {.sa_handler = hand_on, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < sizeof handed_on / sizeof *handed_on; i++)
        sigaction(handed_on[i], &action, NULL);
    command = fork();
    if (command < 0) {
        perror("init");
        return 1;
    }
    if (command == 0) {
        execvp(arguments[1], arguments + 1);
        perror(arguments[1]);
        _exit(errno == ENOENT ? 127 : 126);
    }
    for (;;) {
        int status;
        pid_t ended = wait(&status);
        if (ended == command)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno != EINTR)
            return 1;
    }
}
