// Chooses the instruction set: what was built, what the processor has, what the operating system saves.
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "table.h"

namespace kvik {

#if defined(KVIK_HAVE_AVX2)
namespace avx2 {
extern const Table table;
}
#endif
#if defined(KVIK_HAVE_AVX512)
namespace avx512 {
extern const Table table;
}
#endif
#if defined(KVIK_HAVE_AVX512_VNNI)
namespace avx512_vnni {
extern const Table table;
}
#endif
namespace generic {
extern const Table table;
}

namespace {

struct Features {
    bool avx2 = false;    // AVX2, FMA and F16C
    bool avx512 = false;  // F, BW, DQ and VL, on top of avx2
    bool avx512_vnni = false;
};

#if defined(__x86_64__)
bool bit(unsigned word, int index) { return ((word >> index) & 1u) != 0; }

// The register sets that the operating system saves (XCR0).
unsigned saved_state() {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// Each feature by its own CPUID bit: processors and hypervisors leave single ones out.
Features detect() {
    Features found;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    const bool os_saves = bit(c, 27), avx = bit(c, 28), fma = bit(c, 12), f16c = bit(c, 29);
    if (!os_saves || !avx || (saved_state() & 0x6u) != 0x6u) return found;  // xmm and ymm
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    found.avx2 = bit(b, 5) && fma && f16c;
    const bool zmm = (saved_state() & 0xe6u) == 0xe6u;  // mask registers and both halves of zmm
    found.avx512 = found.avx2 && zmm && bit(b, 16) && bit(b, 30) && bit(b, 17) && bit(b, 31);
    found.avx512_vnni = found.avx512 && bit(c, 11);
    return found;
}
#else
Features detect() { return {}; }
#endif

constexpr int kMaxTables = 4;

struct Available {
    const Table* tables[kMaxTables] = {};
    const char* names[kMaxTables + 1] = {};  // ends with a null pointer
    int count = 0;

    void add(bool usable, const Table& table) {
        if (!usable) return;
        tables[count] = &table;
        names[count++] = table.isa;
    }

    Available() {
        [[maybe_unused]] const Features has = detect();
#if defined(KVIK_HAVE_AVX512_VNNI)
        add(has.avx512_vnni, avx512_vnni::table);
#endif
#if defined(KVIK_HAVE_AVX512)
        add(has.avx512, avx512::table);
#endif
#if defined(KVIK_HAVE_AVX2)
        add(has.avx2, avx2::table);
#endif
        add(true, generic::table);
    }
};

const Available& available() {
    static const Available list;
    return list;
}

}  // namespace

const Table* active = nullptr;

const char* const* available_isas() { return available().names; }

void select_isa(const char* name) {
    const Available& list = available();
    std::string names;
    for (int i = 0; i < list.count; ++i) {
        if (std::strcmp(list.names[i], name) == 0) {
            active = list.tables[i];
            return;
        }
        names += (i ? ", " : "") + std::string(list.names[i]);
    }
    throw std::invalid_argument("instruction set \"" + std::string(name) +
                                "\" cannot run here (KVIK_ISA); choose one of " + names);
}

}  // namespace kvik
