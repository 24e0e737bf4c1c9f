// Memory between two pages that nobody may touch: reading or writing one element outside is a fault.
//
// Only one end can lie at a page's edge, so each case runs once per Edge. What is left of the pages on the other side
// holds a pattern, which must be found again: that catches writes, also far ones of the side that has no edge.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "harness.h"

namespace kvik::test {

enum class Edge { kEnd, kStart };

template <class T>
class Guarded {
public:
    // `count` elements whose bytes are all 0xff: NaN as floats, -1 as integers.
    Guarded(int64_t count, Edge edge) : count_(count) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), used = static_cast<size_t>(count) * sizeof(T);
        inner_bytes_ = (used + page - 1) / page * page;
        mapped_bytes_ = inner_bytes_ + 2 * page;
        mapped_ = static_cast<char*>(mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        CHECK(mapped_ != MAP_FAILED, "no memory for a test");
        inner_ = mapped_ + page;
        if (inner_bytes_) CHECK(mprotect(inner_, inner_bytes_, PROT_READ | PROT_WRITE) == 0, "mprotect failed");
        std::memset(inner_, kPattern, inner_bytes_);
        data_ = reinterpret_cast<T*>(edge == Edge::kEnd ? inner_ + inner_bytes_ - used : inner_);
        std::memset(static_cast<void*>(data_), 0xff, used);
    }

    Guarded(const std::vector<T>& values, Edge edge) : Guarded(static_cast<int64_t>(values.size()), edge) {
        if (count_) std::memcpy(static_cast<void*>(data_), values.data(), values.size() * sizeof(T));
        freeze();
    }

    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    ~Guarded() {
        for (const char* p = inner_; p < inner_ + inner_bytes_; ++p) {
            if (p == reinterpret_cast<char*>(data_)) p += static_cast<size_t>(count_) * sizeof(T);
            if (p == inner_ + inner_bytes_) break;
            CHECK(*p == kPattern, "wrote " + std::to_string(p - reinterpret_cast<char*>(data_)) +
                                      " bytes from the start of a buffer of " +
                                      std::to_string(static_cast<size_t>(count_) * sizeof(T)));
        }
        munmap(mapped_, mapped_bytes_);
    }

    // From here on writing is a fault as well.
    void freeze() {
        if (inner_bytes_) CHECK(mprotect(inner_, inner_bytes_, PROT_READ) == 0, "mprotect failed");
    }

    int64_t size() const { return count_; }
    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](int64_t i) { return data_[i]; }
    const T& operator[](int64_t i) const { return data_[i]; }
    std::vector<T> copy() const { return std::vector<T>(data_, data_ + count_); }

private:
    static constexpr char kPattern = 0x5a;

    int64_t count_;
    size_t inner_bytes_, mapped_bytes_;
    char *mapped_, *inner_;
    T* data_;
};

}  // namespace kvik::test
