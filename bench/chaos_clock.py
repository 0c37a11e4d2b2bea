"""A clock that can be stepped for a whole home: time of day only, monotonic time goes on.

A library of forty lines, compiled on the spot and preloaded into every process, adds what a mapped file says to the
time of day. libfaketime would do, but 0.9.10 either moves monotonic time as well or breaks `time.sleep`.
"""

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *skew_s;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) skew_s = page;
    if (file >= 0) close(file);
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int done = real_gettime ? real_gettime(which, now) : (int)syscall(SYS_clock_gettime, which, now);
    if (!done && skew_s && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += *skew_s;
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *kept) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (kept) *kept = exact.tv_sec;
    return exact.tv_sec;
}
"""


class Clock:
    """The clock of every process that was started with `environment`; steps by whole seconds."""

    def __init__(self, folder: Path) -> None:
        """Compile the library into `folder`. Raises subprocess.CalledProcessError when the compiler fails."""
        self._skew, self._library = folder / "clock", folder / "libclock.so"
        self.set(0)
        source = folder / "clock.c"
        source.write_text(SHIM)
        words = ["cc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(words, check=True, capture_output=True)

    @staticmethod
    def is_possible() -> bool:
        """Whether there is a C compiler."""
        return shutil.which("cc") is not None

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process is started with."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._skew)}

    def set(self, seconds: int) -> None:
        """All of them are so many seconds ahead from now on; written in place, for it is mapped."""
        with self._skew.open("r+b" if self._skew.exists() else "wb") as file:
            file.write(struct.pack("<q", seconds))
