// Element types and their codes; kernels/runtime.py holds the same numbers.
#pragma once

#include <cstdint>

namespace kvik {

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

enum DTypeCode : int { kF32 = 0, kBf16 = 1, kF16 = 2, kI8 = 3 };

}  // namespace kvik
