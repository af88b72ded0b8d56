/* Stands in for the three symbols of glibc 2.38 that Blazen's wheel asks for, on an older glibc:
 *
 *     cc -shared -fPIC -o isoc23.so isoc23.c
 *     LD_PRELOAD=$PWD/isoc23.so python compare_peers.py
 *
 * The C23 variants differ from these only in that they read a "0b" prefix.
 */
#include <stdlib.h>

long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }

long long __isoc23_strtoll(const char *text, char **end, int base) {
    return strtoll(text, end, base);
}

unsigned long long __isoc23_strtoull(const char *text, char **end, int base) {
    return strtoull(text, end, base);
}
