#include "harness.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace kvik::test {
namespace {

// Plain memory, for it is read after a fault.
struct Place {
    char setup[128], test[128], what[512];
} place = {};

template <size_t kSize>
void copy(char (&to)[kSize], const std::string& from) {
    std::snprintf(to, kSize, "%s", from.c_str());
}

void say_place() {
    char line[800];
    const int size = std::snprintf(line, sizeof line, "test: %s\ncase: %s\nsetup: %s\n", place.test, place.what,
                                   place.setup);
    if (write(STDERR_FILENO, line, static_cast<size_t>(size)) < 0) _exit(1);
}

}  // namespace

std::vector<Test>& all_tests() {
    static std::vector<Test> tests;
    return tests;
}

void in_setup(const std::string& setup) { copy(place.setup, setup); }
void at(const std::string& what) { copy(place.what, what); }

void fail(const char* file, int line, const std::string& message) {
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message.c_str());
    say_place();
    std::_Exit(1);
}

int run_tests(const Setup& setup, const std::string& filter) {
    int count = 0;
    for (const Test& test : all_tests()) {
        if (!std::strstr(test.name, filter.c_str())) continue;
        copy(place.test, test.name);
        at("");
        test.run(setup);
        ++count;
    }
    return count;
}

void name_the_case_on_death() { __sanitizer_set_death_callback(say_place); }

}  // namespace kvik::test
