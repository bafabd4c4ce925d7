/* Makes an interpreter of a program that holds CPython 3.10 but runs an application of its own.

The wheel of panda3d on the Python index has one for arm64, `deploy-stub`, with CPython linked in. This file is put
before it by LD_PRELOAD: it takes the place of the program's main, starts CPython, and does what `python3.10` does with
-m, -c or a file. No other arm64 build of CPython 3.10, JetPack 6's, was found on the Python index or in Debian.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <wchar.h>

extern void Py_SetProgramName(const wchar_t *);
extern void Py_Initialize(void);
extern int Py_FinalizeEx(void);
extern void PySys_SetArgvEx(int, wchar_t **, int);
extern wchar_t *Py_DecodeLocale(const char *, size_t *);
extern int PyRun_SimpleStringFlags(const char *, void *);

static const char RUN[] =
    "import runpy, sys\n"
    "def _start():\n"
    "    args = sys.argv[1:]\n"
    "    while args and args[0] in ('-u', '-B', '-I', '-E', '-s'):\n"
    "        args.pop(0)\n"
    "    if args[:1] == ['-m']:\n"
    "        sys.argv = args[1:]\n"
    "        sys.path.insert(0, '')\n"
    "        runpy.run_module(args[1], run_name='__main__', alter_sys=True)\n"
    "    elif args[:1] == ['-c']:\n"
    "        sys.argv = ['-c', *args[2:]]\n"
    "        sys.path.insert(0, '')\n"
    "        import __main__\n"
    "        exec(compile(args[1], '<string>', 'exec'), __main__.__dict__)\n"
    "    else:\n"
    "        sys.argv = args\n"
    "        runpy.run_path(args[0], run_name='__main__')\n"
    "_start()\n";

static int run(int argc, char **argv, char **env) {
    (void)env;
    unsetenv("LD_PRELOAD");
    Py_SetProgramName(Py_DecodeLocale(getenv("PYTHON_PROGRAM"), NULL));
    Py_Initialize();
    wchar_t **given = calloc(argc + 1, sizeof *given);
    for (int i = 0; i < argc; i++) given[i] = Py_DecodeLocale(argv[i], NULL);
    PySys_SetArgvEx(argc, given, 0);
    int failed = PyRun_SimpleStringFlags(RUN, NULL);
    return Py_FinalizeEx() < 0 || failed;
}

typedef int start(int (*)(int, char **, char **), int, char **, void *, void *, void *, void *);

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void *init, void *fini,
                      void *rtld_fini, void *stack) {
    (void)main;
    start *real = (start *)dlsym(RTLD_NEXT, "__libc_start_main");
    return real(run, argc, argv, init, fini, rtld_fini, stack);
}
