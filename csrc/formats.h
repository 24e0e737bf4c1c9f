// Codes of the formats in which weights are stored, the numbers of kernels/dequantize.
#pragma once

namespace kvik {

enum FormatCode : int {
    kFormatF32 = 0,
    kFormatF16 = 1,
    kFormatBf16 = 2,
    kFormatQ4_0 = 3,
    kFormatQ4_1 = 4,
    kFormatQ5_0 = 5,
    kFormatQ5_1 = 6,
    kFormatQ8_0 = 7,
    kFormatQ4_K = 8,
    kFormatQ5_K = 9,
    kFormatQ6_K = 10,
    kFormatQ16 = 11,  // 16-bit fixed point with a scale per row; of no file, see packed_q16.h
};

}  // namespace kvik
