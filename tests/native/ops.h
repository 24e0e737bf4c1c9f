// What a test of an op is given.
#pragma once

#include <cstring>

#include "guarded.h"
#include "harness.h"
#include "numbers.h"
#include "table.h"
#include "thread_pool.h"

namespace kvik::test {

struct Setup {
    const Table& table;
    Edge edge;
    int num_threads;

    // An output or scratch: all bytes 0xff.
    template <class T>
    Guarded<T> room(int64_t count) const {
        return Guarded<T>(count, edge);
    }
    // An input: it cannot be written.
    template <class T>
    Guarded<T> input(const std::vector<T>& values) const {
        return Guarded<T>(values, edge);
    }
};

// Tells main() that an op of table.h has a test.
struct Covers {
    explicit Covers(const char* op);
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace kvik::test

#define COVERS(op) static const kvik::test::Covers covers_##op(#op)
