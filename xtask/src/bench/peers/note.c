// note FILE TAG [MILLISECONDS]: a job that does nothing but note its start and its end, as fakegpu-train does. In C, so
// that next to nothing of the time between two jobs is this program's own.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int count, char **arguments) {
    long long began = now();
    if (count < 3) return 2;
    int file = open(arguments[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) return 2;
    const char *gpus = getenv("CUDA_VISIBLE_DEVICES");
    dprintf(file, "%s begin %lld %d %s\n", arguments[2], began, getpid(), gpus && *gpus ? gpus : "-");
    if (count > 3) usleep(atoi(arguments[3]) * 1000);
    dprintf(file, "%s end %lld 0\n", arguments[2], now());
    return 0;
}
