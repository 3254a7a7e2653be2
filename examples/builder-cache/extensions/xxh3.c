#define XXH_INLINE_ALL
#include <stdio.h>
#include <xxhash.h>

/* Prints the XXH3 of what comes in. */
int main(void) {
    static char buffer[1 << 16];
    XXH3_state_t *state = XXH3_createState();
    size_t count;
    XXH3_64bits_reset(state);
    while ((count = fread(buffer, 1, sizeof buffer, stdin)) > 0)
        XXH3_64bits_update(state, buffer, count);
    printf("%016llx\n", (unsigned long long) XXH3_64bits_digest(state));
    return ferror(stdin) != 0;
}
