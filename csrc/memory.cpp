#include "memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace kvik {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = size_t{64} << 10;  // a multiple of the page size of every system we build on

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

size_t mapped_bytes(size_t num_bytes) {
    return round_up(num_bytes ? num_bytes : 1, num_bytes < kHugePage ? kPage : kHugePage);
}

}  // namespace

void* map_pages(size_t num_bytes) {
    const size_t size = mapped_bytes(num_bytes), slack = num_bytes < kHugePage ? 0 : kHugePage;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* mapped = mmap(nullptr, size + slack, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    if (!slack) return mapped;
    char* raw = static_cast<char*>(mapped);
    char* aligned = reinterpret_cast<char*>(round_up(reinterpret_cast<uintptr_t>(raw), kHugePage));
    const size_t before = static_cast<size_t>(aligned - raw);
    if (before) munmap(raw, before);
    if (slack - before) munmap(aligned + size, slack - before);
#if defined(MADV_HUGEPAGE)
    madvise(aligned, size, MADV_HUGEPAGE);  // advice: without it the block is only slower
#endif
    return aligned;
}

void unmap_pages(void* data, size_t num_bytes) { munmap(data, mapped_bytes(num_bytes)); }

}  // namespace kvik
