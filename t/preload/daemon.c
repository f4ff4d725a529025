/* Preloaded into nginx by t/sanitize.py: no search for leaks in the process that starts a daemon and ends. It does not close
 * the Lua VM, and memory of LuaJIT is no root of the search. */
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
