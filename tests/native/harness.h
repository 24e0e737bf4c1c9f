// A test program in one page: TEST() registers a function, CHECK() ends the program with what was wrong and where.
// Knows neither ops nor threads.
//
// A program runs each test once per Setup, a type of its own: what varies, such as the instruction set. A test says
// which case it is at with at(); that line is printed when a check fails, a sanitizer stops the program or a guard page
// is touched.
#pragma once

#include <string>
#include <vector>

namespace kvik::test {

struct Setup;

struct Test {
    const char* name;
    void (*run)(const Setup&);
};

std::vector<Test>& all_tests();

struct Registration {
    Registration(const char* name, void (*run)(const Setup&)) { all_tests().push_back({name, run}); }
};

// Names the setup, then the case, that checks from here on belong to.
void in_setup(const std::string& setup);
void at(const std::string& what);

[[noreturn]] void fail(const char* file, int line, const std::string& message);

// Runs the tests whose name contains `filter`; returns how many.
int run_tests(const Setup& setup, const std::string& filter);

// Makes a fault or a sanitizer's report end with the setup, test and case that it happened in.
void name_the_case_on_death();

// "m 3, n 17": names and numbers in turn.
template <class... Rest>
std::string words(const char* name, long long value, Rest... rest) {
    std::string text = std::string(name) + " " + std::to_string(value);
    if constexpr (sizeof...(rest) > 0) text += ", " + words(rest...);
    return text;
}

}  // namespace kvik::test

#define TEST(name)                                                            \
    static void name(const kvik::test::Setup& setup);                         \
    static const kvik::test::Registration register_##name(#name, name);       \
    static void name([[maybe_unused]] const kvik::test::Setup& setup)

#define CHECK(condition, message)                                             \
    do {                                                                      \
        if (!(condition)) kvik::test::fail(__FILE__, __LINE__, (message));    \
    } while (false)
