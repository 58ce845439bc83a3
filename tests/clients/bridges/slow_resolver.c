/* Preloaded into a broker. Looking up far.test takes until the file "answer" is in the directory RESOLVER; the file
   "asked" says that it has begun. All other names are looked up as usual. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    look_up *usual = (look_up *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *directory = getenv("RESOLVER");
    if (name && directory && strcmp(name, "far.test") == 0) {
        int place = open(directory, O_RDONLY | O_DIRECTORY);
        close(openat(place, "asked", O_CREAT | O_WRONLY, 0600));
        while (faccessat(place, "answer", F_OK, 0) != 0)
            usleep(10000);
        close(place);
        name = "127.0.0.1";
    }
    return usual(name, service, hints, found);
}
