// Big blocks of zeroed memory from the operating system.
#pragma once

#include <cstddef>

namespace kvik {

// Zeroed, page aligned, not backed by memory before it is touched. From 2 MiB on aligned to 2 MiB and advised for
// huge pages: a walk over gigabytes of weights then misses the TLB 512 times less. Throws std::bad_alloc.
void* map_pages(size_t num_bytes);
void unmap_pages(void* data, size_t num_bytes);

}  // namespace kvik
