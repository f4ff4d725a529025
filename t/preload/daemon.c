/* Preloaded into nginx by t/sanitize.py: turns off the search for leaks in the process that starts the daemon and exits.
 * It does not close the Lua VM, and the search does not follow pointers in LuaJIT's memory. */
#include <dlfcn.h>
#include <sys/types.h>

static int depth;
static int forked;

int __lsan_is_turned_off(void);

pid_t fork(void)
{
    pid_t (*real)(void) = (pid_t (*)(void)) dlsym(RTLD_NEXT, "fork");
    pid_t pid = real();

    if (pid == 0) {
        depth++;
        forked = 0;
    } else if (pid > 0) {
        forked = 1;
    }

    return pid;
}

int __lsan_is_turned_off(void)
{
    return depth == 0 && forked;
}
