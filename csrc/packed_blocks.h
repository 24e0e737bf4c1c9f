// The layout of a packed weight of a quantised format, and GGUF blocks going in and out of it.
//
// As in packed.h a weight [N, K] is cut into panels of 16 output rows, a panel runs through K in ascending order, and
// N is padded to 16 with zeros. K goes in groups of 32. A group is 8 steps of 4 elements of each row: 64 bytes, row by
// row, which feed one dot product of bytes. Codes are unsigned, so that the 8-bit product of the machine can take
// them; what they stand for is code - kZeroPoint, times the scale, plus the minimum if the format has one. Steps of 4
// bits lie in pairs, the first in the low nibbles. Whatever is loaded as 64 bytes is aligned to 64.
//
//   q8_0, q4_0  two groups: fp16 scales of both, codes of both (an odd last group: as if the second were cut off)
//   q4_1        a group: fp16 scales, fp16 minima, codes
//   q4_k        8 groups: fp16 scale and scale of the minima, 8 scales, 8 minima of one byte, codes
//   q6_k        8 groups: fp16 scale, 32 bytes unused, 16 scales of one signed byte, each for half a group, codes: for
//               each group 4 pairs of steps with the low 4 bits, then 2 vectors with the high 2 bits of 4 steps
//
// Each format is a struct of: kFormat, the sizes of its blocks; where a group lies; codes<kPair>, steps 2 kPair and
// 2 kPair + 1 of a group; place and code_at, one element of each row, chosen at run time; scale and minimum, those of
// the 16 rows; put and get, one block of one row.
#pragma once

#include "ops/dequantize.h"
#include "packed.h"

namespace kvik::KVIK_ISA {

// What a product with a weight of bytes is given: out [M, N], x [M, K] and bias [N] fp32.
struct ProductArgs {
    float* out;
    int64_t out_stride;  // floats from row to row
    const float* x;
    const uint8_t* weight;
    const float* bias;  // or null
    int64_t m, n, k;
};

constexpr int kGroup = 32;            // elements of a row in a group
constexpr int kNibbleBytes = 256;     // a group's codes of 4 bits
constexpr int kByteBytes = 512;       // and of 8

KVIK_INLINE const f16* halves(const uint8_t* p) { return reinterpret_cast<const f16*>(p); }
KVIK_INLINE void put_half(uint8_t* at, int lane, const uint8_t* half) { std::memcpy(at + 2 * lane, half, 2); }
KVIK_INLINE void get_half(uint8_t* half, const uint8_t* at, int lane) { std::memcpy(half, at + 2 * lane, 2); }

// 32 codes of 4 bits, a byte each in `codes`, to and from the lane of a row.
KVIK_INLINE void put_nibbles(uint8_t* at, int lane, const uint8_t* codes) {
    for (int pair = 0; pair < 4; ++pair) {
        const uint32_t both = word_at(codes + 8 * pair) | word_at(codes + 8 * pair + 4) << 4;
        std::memcpy(at + 64 * pair + 4 * lane, &both, 4);
    }
}
KVIK_INLINE void get_nibbles(uint8_t* codes, const uint8_t* at, int lane) {
    for (int pair = 0; pair < 4; ++pair) {
        const uint32_t both = word_at(at + 64 * pair + 4 * lane);
        const uint32_t first = both & 0x0f0f0f0fu, second = both >> 4 & 0x0f0f0f0fu;
        std::memcpy(codes + 8 * pair, &first, 4);
        std::memcpy(codes + 8 * pair + 4, &second, 4);
    }
}

// The 16 bytes of a GGUF block with the first 16 codes in the low nibbles.
KVIK_INLINE void pack_nibbles(uint8_t* bytes, const uint8_t* codes) {
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(codes[i] | codes[i + 16] << 4);
}

struct BytePair {
    Bytes first, second;
};
KVIK_INLINE BytePair nibbles_at(const uint8_t* p) {
    const Bytes both = load_bytes(p);
    return {and_bytes(both, 15), and_bytes(shift_right<4>(both), 15)};
}

// Where an element of a group lies: how many bytes from the group's codes on, and how many bits up in each lane.
struct Place {
    int32_t offset, shift;
};
KVIK_INLINE Place nibble_place(int element) { return {element / 8 * 64, element % 4 * 8 + element / 4 % 2 * 4}; }
KVIK_INLINE I32 nibble_at(const uint8_t* p, const Place& place) {
    return low_bits(shift_lanes(load_bytes(p + place.offset), &place.shift), 15);
}

struct PackedQ8_0 {
    using Gguf = Q8_0;
    static constexpr int kZeroPoint = 128, kMaxCode = 255, kScalesPerGroup = 1;
    static constexpr bool kHasMinimum = false;
    static constexpr int64_t kPairBytes = 64 + 2 * kByteBytes;

    static constexpr int64_t panel_bytes(int64_t groups) {
        return groups / 2 * kPairBytes + groups % 2 * (64 + kByteBytes);
    }
    KVIK_INLINE int64_t header(int64_t group) { return group / 2 * kPairBytes + group % 2 * 32; }
    KVIK_INLINE int64_t body(int64_t group) { return group / 2 * kPairBytes + 64 + group % 2 * kByteBytes; }

    template <int kPair>
    KVIK_INLINE BytePair codes(const uint8_t* panel, int64_t group) {
        const uint8_t* at = panel + body(group) + 128 * kPair;
        return {load_bytes(at), load_bytes(at + 64)};
    }
    // Up to three bytes early (before the codes lie the scales), so that the element is the last of its lane.
    using Place = KVIK_ISA::Place;
    KVIK_INLINE Place place(int element) { return {element / 4 * 64 + element % 4 - 3, 0}; }
    KVIK_INLINE I32 code_at(const uint8_t* panel, int64_t group, const Place& place) {
        return top_bytes(load_bytes(panel + body(group) + place.offset));
    }
    template <int kPart>
    KVIK_INLINE F32 scale(const uint8_t* panel, int64_t group) {
        return load(halves(panel + header(group)));
    }
    KVIK_INLINE void put(uint8_t* panel, int64_t block, int lane, const uint8_t* in) {
        put_half(panel + header(block), lane, in);
        uint8_t* at = panel + body(block) + 4 * lane;
        for (int step = 0; step < 8; ++step) {
            const uint32_t codes = word_at(in + 2 + 4 * step) ^ 0x80808080u;
            std::memcpy(at + 64 * step, &codes, 4);
        }
    }
    KVIK_INLINE void get(uint8_t* out, const uint8_t* panel, int64_t block, int lane) {
        get_half(out, panel + header(block), lane);
        const uint8_t* at = panel + body(block) + 4 * lane;
        for (int step = 0; step < 8; ++step) {
            const uint32_t codes = word_at(at + 64 * step) ^ 0x80808080u;
            std::memcpy(out + 2 + 4 * step, &codes, 4);
        }
    }
};

struct PackedQ4_0 {
    using Gguf = Q4_0;
    static constexpr int kZeroPoint = 8, kMaxCode = 15, kScalesPerGroup = 1;
    static constexpr bool kHasMinimum = false;
    static constexpr int64_t kPairBytes = 64 + 2 * kNibbleBytes;

    static constexpr int64_t panel_bytes(int64_t groups) {
        return groups / 2 * kPairBytes + groups % 2 * (64 + kNibbleBytes);
    }
    KVIK_INLINE int64_t header(int64_t group) { return group / 2 * kPairBytes + group % 2 * 32; }
    KVIK_INLINE int64_t body(int64_t group) { return group / 2 * kPairBytes + 64 + group % 2 * kNibbleBytes; }

    template <int kPair>
    KVIK_INLINE BytePair codes(const uint8_t* panel, int64_t group) {
        return nibbles_at(panel + body(group) + 64 * kPair);
    }
    using Place = KVIK_ISA::Place;
    KVIK_INLINE Place place(int element) { return nibble_place(element); }
    KVIK_INLINE I32 code_at(const uint8_t* panel, int64_t group, const Place& place) {
        return nibble_at(panel + body(group), place);
    }
    template <int kPart>
    KVIK_INLINE F32 scale(const uint8_t* panel, int64_t group) {
        return load(halves(panel + header(group)));
    }
    KVIK_INLINE void put(uint8_t* panel, int64_t block, int lane, const uint8_t* in) {
        uint8_t codes[kGroup];
        put_half(panel + header(block), lane, in);
        unpack_nibbles(codes, in + 2, 0);
        put_nibbles(panel + body(block), lane, codes);
    }
    KVIK_INLINE void get(uint8_t* out, const uint8_t* panel, int64_t block, int lane) {
        uint8_t codes[kGroup];
        get_half(out, panel + header(block), lane);
        get_nibbles(codes, panel + body(block), lane);
        pack_nibbles(out + 2, codes);
    }
};

struct PackedQ4_1 {
    using Gguf = Q4_1;
    static constexpr int kZeroPoint = 0, kMaxCode = 15, kScalesPerGroup = 1;
    static constexpr bool kHasMinimum = true;
    static constexpr int64_t kBytes = 64 + kNibbleBytes;

    static constexpr int64_t panel_bytes(int64_t groups) { return groups * kBytes; }
    template <int kPair>
    KVIK_INLINE BytePair codes(const uint8_t* panel, int64_t group) {
        return nibbles_at(panel + group * kBytes + 64 + 64 * kPair);
    }
    using Place = KVIK_ISA::Place;
    KVIK_INLINE Place place(int element) { return nibble_place(element); }
    KVIK_INLINE I32 code_at(const uint8_t* panel, int64_t group, const Place& place) {
        return nibble_at(panel + group * kBytes + 64, place);
    }
    template <int kPart>
    KVIK_INLINE F32 scale(const uint8_t* panel, int64_t group) {
        return load(halves(panel + group * kBytes));
    }
    KVIK_INLINE F32 minimum(const uint8_t* panel, int64_t group) { return load(halves(panel + group * kBytes + 32)); }
    KVIK_INLINE void put(uint8_t* panel, int64_t block, int lane, const uint8_t* in) {
        uint8_t codes[kGroup], *at = panel + block * kBytes;
        put_half(at, lane, in);
        put_half(at + 32, lane, in + 2);
        unpack_nibbles(codes, in + 4, 0);
        put_nibbles(at + 64, lane, codes);
    }
    KVIK_INLINE void get(uint8_t* out, const uint8_t* panel, int64_t block, int lane) {
        uint8_t codes[kGroup];
        const uint8_t* at = panel + block * kBytes;
        get_half(out, at, lane);
        get_half(out + 2, at + 32, lane);
        get_nibbles(codes, at + 64, lane);
        pack_nibbles(out + 4, codes);
    }
};

struct PackedQ4_K {
    using Gguf = Q4_K;
    static constexpr int kZeroPoint = 0, kMaxCode = 15, kScalesPerGroup = 1;
    static constexpr bool kHasMinimum = true;
    static constexpr int64_t kScales = 64, kMinima = kScales + 8 * 16, kBody = kMinima + 8 * 16;
    static constexpr int64_t kBytes = kBody + 8 * kNibbleBytes;

    static constexpr int64_t panel_bytes(int64_t groups) { return groups / 8 * kBytes; }
    template <int kPair>
    KVIK_INLINE BytePair codes(const uint8_t* panel, int64_t group) {
        return nibbles_at(panel + group / 8 * kBytes + kBody + group % 8 * kNibbleBytes + 64 * kPair);
    }
    using Place = KVIK_ISA::Place;
    KVIK_INLINE Place place(int element) { return nibble_place(element); }
    KVIK_INLINE I32 code_at(const uint8_t* panel, int64_t group, const Place& place) {
        return nibble_at(panel + group / 8 * kBytes + kBody + group % 8 * kNibbleBytes, place);
    }
    template <int kPart>
    KVIK_INLINE F32 scale(const uint8_t* panel, int64_t group) {
        const uint8_t* at = panel + group / 8 * kBytes;
        return load(halves(at)) * load_u8(at + kScales + group % 8 * 16);
    }
    KVIK_INLINE F32 minimum(const uint8_t* panel, int64_t group) {
        const uint8_t* at = panel + group / 8 * kBytes;
        return zero() - load(halves(at + 32)) * load_u8(at + kMinima + group % 8 * 16);
    }
    KVIK_INLINE void put(uint8_t* panel, int64_t block, int lane, const uint8_t* in) {
        uint8_t *at = panel + block * kBytes, codes[kGroup];
        put_half(at, lane, in);
        put_half(at + 32, lane, in + 2);
        for (int group = 0; group < 8; ++group) {
            const ScaleMinBits bits = scale_min_bits(in + 4, group);
            at[kScales + group * 16 + lane] = bits.scale;
            at[kMinima + group * 16 + lane] = bits.minimum;
            const uint8_t* bytes = in + 16 + group / 2 * 32;
            for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<uint8_t>(bytes[i] >> (group % 2 * 4) & 15);
            put_nibbles(at + kBody + group * kNibbleBytes, lane, codes);
        }
    }
    KVIK_INLINE void get(uint8_t* out, const uint8_t* panel, int64_t block, int lane) {
        const uint8_t* at = panel + block * kBytes;
        get_half(out, at, lane);
        get_half(out + 2, at + 32, lane);
        uint8_t codes[2][kGroup], s[8], m[8];
        for (int group = 0; group < 8; ++group) {
            s[group] = at[kScales + group * 16 + lane];
            m[group] = at[kMinima + group * 16 + lane];
            get_nibbles(codes[group % 2], at + kBody + group * kNibbleBytes, lane);
            if (group % 2 == 0) continue;
            for (int i = 0; i < kGroup; ++i)
                out[16 + group / 2 * 32 + i] = static_cast<uint8_t>(codes[0][i] | codes[1][i] << 4);
        }
        for (int i = 0; i < 4; ++i) {
            out[4 + i] = static_cast<uint8_t>(s[i] | s[i + 4] >> 4 << 6);
            out[8 + i] = static_cast<uint8_t>(m[i] | m[i + 4] >> 4 << 6);
            out[12 + i] = static_cast<uint8_t>((s[i + 4] & 15) | (m[i + 4] & 15) << 4);
        }
    }
};

struct PackedQ6_K {
    using Gguf = Q6_K;
    static constexpr int kZeroPoint = 32, kMaxCode = 63, kScalesPerGroup = 2;
    static constexpr bool kHasMinimum = false;
    static constexpr int64_t kScales = 64, kBody = kScales + 16 * 16, kHigh = kNibbleBytes;
    static constexpr int64_t kGroupBytes = kNibbleBytes + 128, kBytes = kBody + 8 * kGroupBytes;

    static constexpr int64_t panel_bytes(int64_t groups) { return groups / 8 * kBytes; }
    template <int kPair>
    KVIK_INLINE BytePair codes(const uint8_t* panel, int64_t group) {
        const uint8_t* at = panel + group / 8 * kBytes + kBody + group % 8 * kGroupBytes;
        const BytePair low = nibbles_at(at + 64 * kPair);
        const Bytes high = load_bytes(at + kHigh + 64 * (kPair / 2));
        if constexpr (kPair % 2 == 0) {
            return {or_bytes(low.first, and_bytes(shift_left<4>(high), 48)),
                    or_bytes(low.second, and_bytes(shift_left<2>(high), 48))};
        } else {
            return {or_bytes(low.first, and_bytes(high, 48)),
                    or_bytes(low.second, and_bytes(shift_right<2>(high), 48))};
        }
    }
    struct Place {
        KVIK_ISA::Place low, high;
    };
    KVIK_INLINE Place place(int element) {
        return {nibble_place(element), {element / 16 * 64, element % 4 * 8 + element / 4 % 4 * 2}};
    }
    KVIK_INLINE I32 code_at(const uint8_t* panel, int64_t group, const Place& place) {
        const uint8_t* at = panel + group / 8 * kBytes + kBody + group % 8 * kGroupBytes;
        const Bytes low = shift_lanes(load_bytes(at + place.low.offset), &place.low.shift);
        const Bytes high = shift_lanes(load_bytes(at + kHigh + place.high.offset), &place.high.shift);
        return low_bits(or_bytes(and_bytes(low, 15), and_bytes(shift_left<4>(high), 48)), 63);
    }
    template <int kPart>
    KVIK_INLINE F32 scale(const uint8_t* panel, int64_t group) {
        const uint8_t* at = panel + group / 8 * kBytes;
        return load(halves(at)) * load_i8(reinterpret_cast<const int8_t*>(at + kScales + (group % 8 * 2 + kPart) * 16));
    }
    KVIK_INLINE void put(uint8_t* panel, int64_t block, int lane, const uint8_t* in) {
        uint8_t *at = panel + block * kBytes, codes[kGroup], low[kGroup];
        put_half(at, lane, in + 208);
        for (int i = 0; i < 16; ++i) at[kScales + i * 16 + lane] = in[192 + i];
        for (int group = 0; group < 8; ++group) {
            q6_k_codes(codes, in, group);
            for (int i = 0; i < kGroup; ++i) low[i] = codes[i] & 15;
            uint8_t* group_at = at + kBody + group * kGroupBytes;
            put_nibbles(group_at, lane, low);
            for (int half = 0; half < 2; ++half) {
                uint32_t high = 0;
                for (int s = 0; s < 4; ++s) high |= (word_at(codes + 16 * half + 4 * s) >> 4 & 0x03030303u) << (2 * s);
                std::memcpy(group_at + kHigh + 64 * half + 4 * lane, &high, 4);
            }
        }
    }
    KVIK_INLINE void get(uint8_t* out, const uint8_t* panel, int64_t block, int lane) {
        const uint8_t* at = panel + block * kBytes;
        get_half(out + 208, at, lane);
        for (int i = 0; i < 16; ++i) out[192 + i] = at[kScales + i * 16 + lane];
        std::memset(out, 0, 192);
        uint8_t low[kGroup], high[kGroup];
        for (int group = 0; group < 8; ++group) {
            const uint8_t* group_at = at + kBody + group * kGroupBytes;
            get_nibbles(low, group_at, lane);
            for (int half = 0; half < 2; ++half)
                for (int s = 0; s < 4; ++s) {
                    const uint32_t bits = word_at(group_at + kHigh + 64 * half + 4 * lane) >> (2 * s) & 0x03030303u;
                    std::memcpy(high + 16 * half + 4 * s, &bits, 4);
                }
            uint8_t *lows = out + group / 4 * 64 + group % 2 * 32, *highs = out + 128 + group / 4 * 32;
            for (int i = 0; i < kGroup; ++i) {
                lows[i] = static_cast<uint8_t>(lows[i] | low[i] << (group % 4 / 2 * 4));
                highs[i] = static_cast<uint8_t>(highs[i] | high[i] << (group % 4 * 2));
            }
        }
    }
};

// Calls fn<Q>() with the struct of a quantised format; false where it is none.
template <class Fn>
KVIK_INLINE bool with_packed_blocks(int format, const Fn& fn) {
    switch (format) {
        case kFormatQ8_0: fn.template operator()<PackedQ8_0>(); return true;
        case kFormatQ4_0: fn.template operator()<PackedQ4_0>(); return true;
        case kFormatQ4_1: fn.template operator()<PackedQ4_1>(); return true;
        case kFormatQ4_K: fn.template operator()<PackedQ4_K>(); return true;
        case kFormatQ6_K: fn.template operator()<PackedQ6_K>(); return true;
    }
    return false;
}

}  // namespace kvik::KVIK_ISA
