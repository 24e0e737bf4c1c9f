// The ops of csrc/table.h, each on every instruction set that this machine has, on 1, 2 and 3 threads, with buffers that
// end, then begin, at a page that nobody may touch.
#include <chrono>
#include <cstdio>
#include <set>
#include <string>

#include "ops.h"

namespace kvik::test {
namespace {

std::set<std::string>& covered() {
    static std::set<std::string> names;
    return names;
}

bool every_op_has_a_test() {
    bool all = true;
    const auto look = [&all](const char* op) {
        if (covered().count(op)) return;
        std::fprintf(stderr, "tests/native has no test of `%s` (csrc/table.h): write one and name it with COVERS()\n", op);
        all = false;
    };
#define KVIK_LOOK(name, ...) look(#name);
    KVIK_OPS(KVIK_LOOK)
#undef KVIK_LOOK
    return all;
}

void run_isa(const char* isa, const std::string& filter) {
    const auto start = std::chrono::steady_clock::now();
    select_isa(isa);
    int count = 0;
    for (int threads = 1; threads <= 3; ++threads) {
        set_num_threads(threads);
        for (const Edge edge : {Edge::kEnd, Edge::kStart}) {
            in_setup(std::string(isa) + ", " + std::to_string(threads) + " threads, guard page at the " +
                     (edge == Edge::kEnd ? "end" : "start"));
            count += run_tests({*active, edge, threads}, filter);
        }
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%-12s %d tests passed in %.1f s\n", isa, count, seconds.count());
    std::fflush(stdout);
}

}  // namespace

Covers::Covers(const char* op) { covered().insert(op); }

}  // namespace kvik::test

// The first argument chooses tests by a part of their name, the second one instruction set.
int main(int argc, char** argv) {
    using namespace kvik::test;
    name_the_case_on_death();
    if (!every_op_has_a_test()) return 1;
    const std::string filter = argc > 1 ? argv[1] : "", isa = argc > 2 ? argv[2] : "";
    if (filter == "--isas") {
        for (const char* const* name = kvik::available_isas(); *name; ++name) std::puts(*name);
        return 0;
    }
    for (const char* const* name = kvik::available_isas(); *name; ++name)
        if (isa.empty() || isa == *name) run_isa(*name, filter);
    kvik::set_num_threads(1);
}
