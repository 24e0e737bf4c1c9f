// The blocks of GGUF files -> plain elements. The formats are described in ggml's quantisation sources and in the
// `gguf` package; values are formed in fp32 with the roundings of the latter, then rounded to the output's dtype.
#pragma once

#include "../formats.h"
#include "../parallel.h"
#include "../simd.h"

namespace kvik::KVIK_ISA {

KVIK_INLINE F32 half_at(const uint8_t* p) {
    f16 half;
    std::memcpy(&half, p, sizeof half);
    return set1(widen1(half));
}

// `count` codes times a scale plus an offset.
template <class T>
KVIK_INLINE void put(T* out, const uint8_t* codes, int count, F32 scale, F32 offset) {
    for (int i = 0; i < count; i += kLanes) store(out + i, load_u8(codes + i) * scale + offset);
}

// The same where codes stand for numbers from -zero_point on.
template <class T>
KVIK_INLINE void put_centred(T* out, const uint8_t* codes, int count, F32 scale, int zero_point) {
    const F32 centre = set1(static_cast<float>(zero_point));
    for (int i = 0; i < count; i += kLanes) store(out + i, (load_u8(codes + i) - centre) * scale);
}

// 16 bytes -> 32 codes: the low nibbles, then the high ones; `high_bits` gives each code its fifth bit.
KVIK_INLINE void unpack_nibbles(uint8_t* codes, const uint8_t* bytes, uint32_t high_bits) {
    for (int i = 0; i < 16; ++i) {
        codes[i] = static_cast<uint8_t>((bytes[i] & 15) | ((high_bits >> i & 1u) << 4));
        codes[i + 16] = static_cast<uint8_t>((bytes[i] >> 4) | ((high_bits >> (i + 16) & 1u) << 4));
    }
}

KVIK_INLINE uint32_t word_at(const uint8_t* p) {
    uint32_t word;
    std::memcpy(&word, p, sizeof word);
    return word;
}

struct Q4_0 {  // scale, 32 x 4 bits
    static constexpr int kSize = 32, kBytes = 18;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        uint8_t codes[32];
        unpack_nibbles(codes, in + 2, 0);
        put_centred(out, codes, 32, half_at(in), 8);
    }
};

struct Q4_1 {  // scale, minimum, 32 x 4 bits
    static constexpr int kSize = 32, kBytes = 20;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        uint8_t codes[32];
        unpack_nibbles(codes, in + 4, 0);
        put(out, codes, 32, half_at(in), half_at(in + 2));
    }
};

struct Q5_0 {  // scale, 32 fifth bits, 32 x 4 bits
    static constexpr int kSize = 32, kBytes = 22;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        uint8_t codes[32];
        unpack_nibbles(codes, in + 6, word_at(in + 2));
        put_centred(out, codes, 32, half_at(in), 16);
    }
};

struct Q5_1 {  // scale, minimum, 32 fifth bits, 32 x 4 bits
    static constexpr int kSize = 32, kBytes = 24;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        uint8_t codes[32];
        unpack_nibbles(codes, in + 8, word_at(in + 4));
        put(out, codes, 32, half_at(in), half_at(in + 2));
    }
};

struct Q8_0 {  // scale, 32 x 8 bits
    static constexpr int kSize = 32, kBytes = 34;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        const F32 scale = half_at(in);
        const int8_t* codes = reinterpret_cast<const int8_t*>(in + 2);
        for (int i = 0; i < 32; i += kLanes) store(out + i, load_i8(codes + i) * scale);
    }
};

// The 6-bit scale and minimum of sub-block i of 8, from 12 bytes: the first four in the low six bits of bytes 0-3
// and 4-7, the others in the nibbles of bytes 8-11 and the high two bits of the former.
struct ScaleMinBits {
    uint8_t scale, minimum;
};
KVIK_INLINE ScaleMinBits scale_min_bits(const uint8_t* bytes, int i) {
    if (i < 4) return {static_cast<uint8_t>(bytes[i] & 63), static_cast<uint8_t>(bytes[i + 4] & 63)};
    return {static_cast<uint8_t>((bytes[i + 4] & 15) | (bytes[i - 4] >> 6 << 4)),
            static_cast<uint8_t>((bytes[i + 4] >> 4) | (bytes[i] >> 6 << 4))};
}
struct ScaleMin {
    F32 scale, minimum;
};
KVIK_INLINE ScaleMin scale_min(const uint8_t* bytes, int i, F32 scale, F32 minimum) {
    const ScaleMinBits bits = scale_min_bits(bytes, i);
    return {scale * set1(bits.scale), zero() - minimum * set1(bits.minimum)};
}

struct Q4_K {  // scale, scale of the minima, 8 scales and minima, 8 sub-blocks of 32 x 4 bits, two per 32 bytes
    static constexpr int kSize = 256, kBytes = 144;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        const F32 scale = half_at(in), minimum = half_at(in + 2);
        for (int sub = 0; sub < 8; ++sub) {
            const uint8_t* bytes = in + 16 + sub / 2 * 32;
            uint8_t codes[32];
            for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(bytes[i] >> (sub % 2 * 4) & 15);
            const ScaleMin sm = scale_min(in + 4, sub, scale, minimum);
            put(out + sub * 32, codes, 32, sm.scale, sm.minimum);
        }
    }
};

struct Q5_K {  // as Q4_K, with 32 bytes of fifth bits: bit s of byte i for element i of sub-block s
    static constexpr int kSize = 256, kBytes = 176;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        const F32 scale = half_at(in), minimum = half_at(in + 2);
        for (int sub = 0; sub < 8; ++sub) {
            const uint8_t *high = in + 16, *bytes = in + 48 + sub / 2 * 32;
            uint8_t codes[32];
            for (int i = 0; i < 32; ++i)
                codes[i] = static_cast<uint8_t>((bytes[i] >> (sub % 2 * 4) & 15) | ((high[i] >> sub & 1) << 4));
            const ScaleMin sm = scale_min(in + 4, sub, scale, minimum);
            put(out + sub * 32, codes, 32, sm.scale, sm.minimum);
        }
    }
};

// 32 codes of 6 bits: `run` % 4 of one of the two halves of a q6_k block.
KVIK_INLINE void q6_k_codes(uint8_t* codes, const uint8_t* in, int run) {
    const uint8_t *low = in + run / 4 * 64 + run % 2 * 32, *high = in + 128 + run / 4 * 32;
    const int low_shift = run % 4 / 2 * 4, high_shift = run % 4 * 2;
    for (int i = 0; i < 32; ++i)
        codes[i] = static_cast<uint8_t>((low[i] >> low_shift & 15) | ((high[i] >> high_shift & 3) << 4));
}

struct Q6_K {  // 256 x low 4 bits, 256 x high 2 bits, 16 signed scales, scale
    static constexpr int kSize = 256, kBytes = 210;
    template <class T>
    KVIK_INLINE void block(T* out, const uint8_t* in) {
        const F32 scale = half_at(in + 208);
        const int8_t* scales = reinterpret_cast<const int8_t*>(in + 192);
        for (int run = 0; run < 8; ++run) {
            uint8_t codes[32];
            q6_k_codes(codes, in, run);
            for (int part = 0; part < 2; ++part) {
                const F32 sub_scale = scale * set1(static_cast<float>(scales[run * 2 + part]));
                put_centred(out + run * 32 + part * 16, codes + part * 16, 16, sub_scale, 32);
            }
        }
    }
};

template <class Format, class T>
static void dequantize_blocks(T* out, const uint8_t* data, int64_t num_blocks) {
    parallel_for(num_blocks, min_tasks(Format::kSize * sizeof(T)), [=](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b) Format::block(out + b * Format::kSize, data + b * Format::kBytes);
    });
}

template <class S, class T>
static void convert_elements(T* out, const uint8_t* data, int64_t count) {
    const S* in = reinterpret_cast<const S*>(data);
    parallel_for(count, min_tasks(sizeof(T)), [=](int64_t begin, int64_t end, int) {
        each_vector(end - begin, [&](int64_t i, int64_t n) {
            store_part(out + begin + i, load_part(in + begin + i, n), n);
        });
    });
}

// The first three formats are plain elements, their blocks one element long.
static void dequantize(void* out, const uint8_t* data, int format, int64_t num_blocks, int dtype) {
    with_type(dtype, [&]<class T>() {
        T* to = static_cast<T*>(out);
        switch (format) {
            case kFormatF32: return convert_elements<float>(to, data, num_blocks);
            case kFormatF16: return convert_elements<f16>(to, data, num_blocks);
            case kFormatBf16: return convert_elements<bf16>(to, data, num_blocks);
            case kFormatQ4_0: return dequantize_blocks<Q4_0>(to, data, num_blocks);
            case kFormatQ4_1: return dequantize_blocks<Q4_1>(to, data, num_blocks);
            case kFormatQ5_0: return dequantize_blocks<Q5_0>(to, data, num_blocks);
            case kFormatQ5_1: return dequantize_blocks<Q5_1>(to, data, num_blocks);
            case kFormatQ8_0: return dequantize_blocks<Q8_0>(to, data, num_blocks);
            case kFormatQ4_K: return dequantize_blocks<Q4_K>(to, data, num_blocks);
            case kFormatQ5_K: return dequantize_blocks<Q5_K>(to, data, num_blocks);
            case kFormatQ6_K: return dequantize_blocks<Q6_K>(to, data, num_blocks);
        }
    });
}

}  // namespace kvik::KVIK_ISA
