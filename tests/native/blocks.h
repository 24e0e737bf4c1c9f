// GGUF's block formats, one element at a time in double precision, after ggml's description of the layouts.
#pragma once

#include <cstring>
#include <vector>

#include "numbers.h"

namespace kvik::test {

struct BlockFormat {
    const char* name;
    int code;  // of the dequantize op
    int64_t size, bytes;
    std::vector<int64_t> scales;  // where its fp16 numbers lie
    double (*value)(const uint8_t* block, int64_t i);
};

inline double half_at(const uint8_t* p) { return value_of(f16{static_cast<uint16_t>(p[0] | p[1] << 8)}); }
inline int nibble(const uint8_t* codes, int64_t i) { return i < 16 ? codes[i] & 15 : codes[i - 16] >> 4; }
inline int fifth_bit(const uint8_t* bits, int64_t i) { return bits[i / 8] >> i % 8 & 1; }

inline double q4_0(const uint8_t* b, int64_t i) { return half_at(b) * (nibble(b + 2, i) - 8); }
inline double q4_1(const uint8_t* b, int64_t i) { return half_at(b) * nibble(b + 4, i) + half_at(b + 2); }
inline double q5_0(const uint8_t* b, int64_t i) {
    return half_at(b) * ((nibble(b + 6, i) | fifth_bit(b + 2, i) << 4) - 16);
}
inline double q5_1(const uint8_t* b, int64_t i) {
    return half_at(b) * (nibble(b + 8, i) | fifth_bit(b + 4, i) << 4) + half_at(b + 2);
}
inline double q8_0(const uint8_t* b, int64_t i) { return half_at(b) * static_cast<int8_t>(b[2 + i]); }

// The k-quants' twelve bytes: six-bit numbers, eight scales and eight minimums.
inline int k_scale(const uint8_t* b, int64_t sub) {
    return sub < 4 ? b[sub] & 63 : (b[sub + 4] & 15) | b[sub - 4] >> 6 << 4;
}
inline int k_minimum(const uint8_t* b, int64_t sub) {
    return sub < 4 ? b[sub + 4] & 63 : b[sub + 4] >> 4 | b[sub] >> 6 << 4;
}
inline int k_nibble(const uint8_t* codes, int64_t i) { return codes[i / 64 * 32 + i % 32] >> (i % 64 < 32 ? 0 : 4) & 15; }
inline double k_value(const uint8_t* b, int64_t i, int code) {
    return half_at(b) * k_scale(b + 4, i / 32) * code - half_at(b + 2) * k_minimum(b + 4, i / 32);
}
inline double q4_k(const uint8_t* b, int64_t i) { return k_value(b, i, k_nibble(b + 16, i)); }
inline double q5_k(const uint8_t* b, int64_t i) {
    return k_value(b, i, k_nibble(b + 48, i) | (b[16 + i % 32] >> i / 32 & 1) << 4);
}
inline double q6_k(const uint8_t* b, int64_t i) {
    const int64_t half = i / 128, quarter = i % 128 / 32, j = i % 32;
    const int low = b[half * 64 + quarter % 2 * 32 + j] >> (quarter < 2 ? 0 : 4) & 15;
    const int high = b[128 + half * 32 + j] >> 2 * quarter & 3;
    return half_at(b + 208) * static_cast<int8_t>(b[192 + i / 16]) * ((low | high << 4) - 32);
}

inline const std::vector<BlockFormat>& block_formats() {
    static const std::vector<BlockFormat> all = {
        {"q4_0", 3, 32, 18, {0}, q4_0},         {"q4_1", 4, 32, 20, {0, 2}, q4_1},
        {"q5_0", 5, 32, 22, {0}, q5_0},         {"q5_1", 6, 32, 24, {0, 2}, q5_1},
        {"q8_0", 7, 32, 34, {0}, q8_0},         {"q4_k", 8, 256, 144, {0, 2}, q4_k},
        {"q5_k", 9, 256, 176, {0, 2}, q5_k},    {"q6_k", 10, 256, 210, {208}, q6_k},
    };
    return all;
}

inline const BlockFormat& format_of(const char* name) {
    for (const BlockFormat& format : block_formats())
        if (std::string(format.name) == name) return format;
    CHECK(false, name);
}

// Those that `linear` reads.
inline const std::vector<BlockFormat>& packed_formats() {
    static const std::vector<BlockFormat> all = {format_of("q8_0"), format_of("q4_0"), format_of("q4_1"),
                                                 format_of("q4_k"), format_of("q6_k")};
    return all;
}

// Bytes of a panel of 16 rows, by the layouts of packed_blocks.h.
inline int64_t panel_bytes(const BlockFormat& format, int64_t k) {
    const int64_t groups = k / 32;
    switch (format.code) {
        case kFormatQ8_0: return groups * 512 + (groups + 1) / 2 * 64;
        case kFormatQ4_0: return groups * 256 + (groups + 1) / 2 * 64;
        case kFormatQ4_1: return groups * (256 + 64);
        case kFormatQ4_K: return groups / 8 * (64 + 2 * 8 * 16 + 8 * 256);
        default: return groups / 8 * (64 + 16 * 16 + 8 * (256 + 128));
    }
}

// Blocks of random codes with scales of ordinary size.
inline std::vector<uint8_t> random_blocks(const BlockFormat& format, int64_t count, Random& random) {
    std::vector<uint8_t> data(static_cast<size_t>(count * format.bytes));
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random.below(256));
    for (int64_t b = 0; b < count; ++b)
        for (const int64_t at : format.scales) {
            const f16 scale = element<f16>(random.between(-0.05f, 0.05f));
            std::memcpy(&data[b * format.bytes + at], &scale, sizeof scale);
        }
    return data;
}

}  // namespace kvik::test
