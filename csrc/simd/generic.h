// simd.h for any machine: four vectors of four lanes in the compiler's own vector types (SSE2, NEON and so on).
#pragma once

namespace kvik::KVIK_ISA {

constexpr int kMaxRows = 2, kMaxPanels = 1;

typedef float Float4 __attribute__((vector_size(16)));
typedef uint32_t Uint4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef int16_t Short8 __attribute__((vector_size(16)));
typedef uint16_t Ushort8 __attribute__((vector_size(16)));
typedef uint16_t Ushort4 __attribute__((vector_size(8)));

struct F32 {
    Float4 q[4];
};

template <class To, class From>
KVIK_INLINE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// fn(i) for each of the four parts.
template <class Fn>
KVIK_INLINE F32 each(const Fn& fn) {
    return {{fn(0), fn(1), fn(2), fn(3)}};
}

KVIK_INLINE Float4 set4(float a) { return Float4{a, a, a, a}; }
KVIK_INLINE F32 zero() { return each([](int) { return Float4{}; }); }
KVIK_INLINE F32 set1(float a) { return each([=](int) { return set4(a); }); }
KVIK_INLINE F32 operator+(F32 a, F32 b) { return each([&](int i) { return a.q[i] + b.q[i]; }); }
KVIK_INLINE F32 operator-(F32 a, F32 b) { return each([&](int i) { return a.q[i] - b.q[i]; }); }
KVIK_INLINE F32 operator*(F32 a, F32 b) { return each([&](int i) { return a.q[i] * b.q[i]; }); }
KVIK_INLINE F32 operator/(F32 a, F32 b) { return each([&](int i) { return a.q[i] / b.q[i]; }); }

#if defined(__FP_FAST_FMAF)
KVIK_INLINE Float4 fma4(Float4 a, Float4 b, Float4 c) {
    return Float4{__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
                  __builtin_fmaf(a[3], b[3], c[3])};
}
#else
KVIK_INLINE Float4 fma4(Float4 a, Float4 b, Float4 c) { return a * b + c; }
#endif
KVIK_INLINE F32 fma(F32 a, F32 b, F32 c) { return each([&](int i) { return fma4(a.q[i], b.q[i], c.q[i]); }); }

KVIK_INLINE Float4 select(Int4 mask, Float4 x, Float4 y) {
    return bit_cast<Float4>((bit_cast<Int4>(x) & mask) | (bit_cast<Int4>(y) & ~mask));
}
KVIK_INLINE F32 max(F32 a, F32 b) { return each([&](int i) { return select(a.q[i] > b.q[i], a.q[i], b.q[i]); }); }
KVIK_INLINE F32 min(F32 a, F32 b) { return each([&](int i) { return select(a.q[i] < b.q[i], a.q[i], b.q[i]); }); }
KVIK_INLINE F32 abs(F32 a) {
    return each([&](int i) { return bit_cast<Float4>(bit_cast<Uint4>(a.q[i]) & 0x7fffffffu); });
}
KVIK_INLINE bool any_nan(F32 a) {
    const Int4 found = (a.q[0] != a.q[0]) | (a.q[1] != a.q[1]) | (a.q[2] != a.q[2]) | (a.q[3] != a.q[3]);
    return (found[0] | found[1] | found[2] | found[3]) != 0;
}
KVIK_INLINE uint32_t equal_lanes(F32 a, F32 b) {
    uint32_t lanes = 0;
    for (int i = 0; i < 16; ++i) lanes |= static_cast<uint32_t>(a.q[i / 4][i % 4] == b.q[i / 4][i % 4]) << i;
    return lanes;
}
KVIK_INLINE F32 clear_lanes(F32 a, uint32_t lanes) {
    const Uint4 bits = {1, 2, 4, 8};
    return each([&](int i) {
        const Int4 keep = (bits & (lanes >> 4 * i)) == 0u;
        return bit_cast<Float4>(bit_cast<Int4>(a.q[i]) & keep);
    });
}
KVIK_INLINE F32 select_lt(F32 a, F32 b, F32 x, F32 y) {
    return each([&](int i) { return select(a.q[i] < b.q[i], x.q[i], y.q[i]); });
}
KVIK_INLINE F32 sqrt(F32 a) {
    return each([&](int i) {
        const Float4 q = a.q[i];
        return Float4{__builtin_sqrtf(q[0]), __builtin_sqrtf(q[1]), __builtin_sqrtf(q[2]), __builtin_sqrtf(q[3])};
    });
}

// Adding and taking away 1.5 * 2^23 leaves a whole number; values beyond 2^22 are whole enough for our uses.
KVIK_INLINE F32 round(F32 a) {
    const Float4 magic = set4(12582912.0f), limit = set4(4194304.0f);
    return each([&](int i) {
        const Float4 q = a.q[i];
        return select((q < limit) & (q > -limit), (q + magic) - magic, q);
    });
}

// In two steps, for 2^n itself may be out of range where a * 2^n is not.
KVIK_INLINE Float4 scale2_4(Float4 a, Float4 n) {
    const Int4 whole = __builtin_convertvector(n, Int4), first = whole >> 1, second = whole - first;
    return a * bit_cast<Float4>((first + 127) << 23) * bit_cast<Float4>((second + 127) << 23);
}
KVIK_INLINE F32 scale2(F32 a, F32 n) { return each([&](int i) { return scale2_4(a.q[i], n.q[i]); }); }

KVIK_INLINE float reduce_add(F32 a) {
    const Float4 s = (a.q[0] + a.q[1]) + (a.q[2] + a.q[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
}
KVIK_INLINE float reduce_max(F32 a) {
    const F32 swapped = {{a.q[2], a.q[3], a.q[2], a.q[3]}};
    const F32 half = max(a, swapped);
    float best = half.q[0][0];
    for (int i = 0; i < 8; ++i) best = half.q[i / 4][i % 4] > best ? half.q[i / 4][i % 4] : best;
    return best;
}

KVIK_INLINE Top2 reduce_max2(F32 a, F32 b) {
    F32 first = max(a, b), second = min(a, b);
    for (int apart = 2; apart; apart /= 2) {
        for (int i = 0; i < apart; ++i) {
            const Float4 x = first.q[i], y = first.q[i + apart], s = second.q[i], t = second.q[i + apart];
            const Float4 smaller = select(x < y, x, y), other = select(s < t, t, s);
            first.q[i] = select(x < y, y, x);
            second.q[i] = select(smaller < other, other, smaller);
        }
    }
    Top2 top = {first.q[0][0], second.q[0][0]};
    for (int i = 1; i < 4; ++i) {
        const float x = first.q[0][i], y = second.q[0][i], smaller = x < top.first ? x : top.first;
        top.first = x < top.first ? top.first : x;
        top.second = smaller > top.second ? smaller : top.second;
        top.second = y > top.second ? y : top.second;
    }
    return top;
}

KVIK_INLINE Float4 widen(Ushort4 a) { return bit_cast<Float4>(__builtin_convertvector(a, Uint4) << 16); }

// The bits of the rounded value stay in the upper half of each lane.
KVIK_INLINE Uint4 rounded_bits(Float4 a) {
    const Uint4 bits = bit_cast<Uint4>(a);
    const Uint4 rounded = bits + (((bits >> 16) & 1u) + 0x7fffu), quiet = bits | 0x400000u;
    const Uint4 nan = bit_cast<Uint4>(static_cast<Int4>(a != a));
    return ((quiet & nan) | (rounded & ~nan)) & 0xffff0000u;
}
KVIK_INLINE F32 round_bf16(F32 a) {
    return each([&](int i) { return bit_cast<Float4>(rounded_bits(a.q[i])); });
}

template <class To, class T>
KVIK_INLINE To load4(const T* p) {
    To to;
    std::memcpy(&to, p, sizeof to);
    return to;
}
KVIK_INLINE F32 load(const float* p) { return each([&](int i) { return load4<Float4>(p + 4 * i); }); }
KVIK_INLINE F32 load(const bf16* p) { return each([&](int i) { return widen(load4<Ushort4>(p + 4 * i)); }); }
template <class T>
KVIK_INLINE F32 load_each(const T* p) {
    return each([&](int i) {
        const T* q = p + 4 * i;
        return Float4{static_cast<float>(q[0]), static_cast<float>(q[1]), static_cast<float>(q[2]),
                      static_cast<float>(q[3])};
    });
}
KVIK_INLINE F32 load(const f16* p) {
    return each([&](int i) {
        const f16* q = p + 4 * i;
        return Float4{widen1(q[0]), widen1(q[1]), widen1(q[2]), widen1(q[3])};
    });
}
KVIK_INLINE F32 load_i8(const int8_t* p) { return load_each(p); }
KVIK_INLINE F32 load_u8(const uint8_t* p) { return load_each(p); }

KVIK_INLINE void store(float* p, F32 a) { std::memcpy(p, a.q, sizeof a.q); }
KVIK_INLINE void store(bf16* p, F32 a) {
    for (int i = 0; i < 4; ++i) {
        const Ushort4 q = __builtin_convertvector(rounded_bits(a.q[i]) >> 16, Ushort4);
        std::memcpy(p + 4 * i, &q, sizeof q);
    }
}

// Below 2^-14 a half is a count of 2^-24, the last place of the floats from 0.5 on: there the addition rounds.
KVIK_INLINE f16 narrow1(float a) {
    const uint32_t bits = bit_cast<uint32_t>(a), sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t half;
    if (size > 0x7f800000u) {
        half = 0x7e00u | ((size >> 13) & 0x3ffu);  // NaN
    } else if (size >= 0x477ff000u) {
        half = 0x7c00u;
    } else if (size < 0x38800000u) {
        half = bit_cast<uint32_t>(bit_cast<float>(size) + 0.5f) - bit_cast<uint32_t>(0.5f);
    } else {
        half = ((size + 0xfffu + ((size >> 13) & 1u)) >> 13) - (112u << 10);
    }
    return {static_cast<uint16_t>(sign | half)};
}
KVIK_INLINE void store(f16* p, F32 a) {
    for (int i = 0; i < 16; ++i) p[i] = narrow1(a.q[i / 4][i % 4]);
}
KVIK_INLINE void store(int8_t* p, F32 a) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(a.q[i / 4][i % 4]);
}
template <class T>
KVIK_INLINE F32 load_n(const T* p, int64_t n) {
    T full[16] = {};
    std::memcpy(full, p, static_cast<size_t>(n) * sizeof(T));
    return load(full);
}
template <class T>
KVIK_INLINE void store_n(T* p, F32 a, int64_t n) {
    T full[16];
    store(full, a);
    std::memcpy(p, full, static_cast<size_t>(n) * sizeof(T));
}

template <int kPart>
KVIK_INLINE F32 pair_part(const bf16* p) {
    return each([&](int i) {
        const Uint4 bits = load4<Uint4>(p + 8 * i);
        return bit_cast<Float4>(kPart == 0 ? bits << 16 : bits & 0xffff0000u);
    });
}

struct I32 {
    Int4 q[4];
};
struct Bytes {
    Ushort8 q[4];  // four lanes of four bytes in each, as pairs of bytes
};
constexpr int kMaxDotRows = 2, kWideRows = 0;

template <class Fn>
KVIK_INLINE Bytes each_bytes(const Fn& fn) {
    return {{fn(0), fn(1), fn(2), fn(3)}};
}

KVIK_INLINE I32 set1_i32(int32_t a) {
    const Int4 q = {a, a, a, a};
    return {{q, q, q, q}};
}
KVIK_INLINE F32 to_float(I32 a) {
    return each([&](int i) { return __builtin_convertvector(a.q[i], Float4); });
}
KVIK_INLINE void store_i8(int8_t* p, F32 a) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(a.q[i / 4][i % 4]);
}
KVIK_INLINE Bytes load_bytes(const uint8_t* p) {
    Bytes a;
    std::memcpy(a.q, p, sizeof a.q);
    return a;
}
KVIK_INLINE void store_bytes(uint8_t* p, Bytes a) { std::memcpy(p, a.q, sizeof a.q); }
KVIK_INLINE Bytes repeat4(const int8_t* p) {
    uint16_t pairs[2];
    std::memcpy(pairs, p, sizeof pairs);
    const uint16_t a = pairs[0], b = pairs[1];
    const Ushort8 q = {a, b, a, b, a, b, a, b};
    return {{q, q, q, q}};
}
KVIK_INLINE Bytes and_bytes(Bytes a, uint8_t mask) {
    const uint16_t both = static_cast<uint16_t>(mask * 257);
    return each_bytes([&](int i) { return a.q[i] & both; });
}
KVIK_INLINE Bytes or_bytes(Bytes a, Bytes b) {
    return each_bytes([&](int i) { return a.q[i] | b.q[i]; });
}
template <int kBits>
KVIK_INLINE Bytes shift_right(Bytes a) {
    return each_bytes([&](int i) { return a.q[i] >> kBits; });
}
template <int kBits>
KVIK_INLINE Bytes shift_left(Bytes a) {
    return each_bytes([&](int i) { return a.q[i] << kBits; });
}

// A product of an unsigned and a signed byte, at most 255 * 127, fits 16 bits. Neighbours are summed in 32.
KVIK_INLINE Int4 sum_neighbours(Short8 a) {
    const Int4 pairs = bit_cast<Int4>(a);
    return (bit_cast<Int4>(bit_cast<Uint4>(a) << 16) >> 16) + (pairs >> 16);
}
template <int kMaxCode>
KVIK_INLINE I32 dot4(I32 sums, Bytes codes, Bytes inputs) {
    for (int i = 0; i < 4; ++i) {
        const Short8 x = bit_cast<Short8>(inputs.q[i]);
        const Short8 x_even = bit_cast<Short8>(inputs.q[i] << 8) >> 8, x_odd = x >> 8;
        const Short8 even = bit_cast<Short8>(codes.q[i] & static_cast<uint16_t>(255));
        const Short8 odd = bit_cast<Short8>(codes.q[i] >> 8);
        sums.q[i] += sum_neighbours(even * x_even) + sum_neighbours(odd * x_odd);
    }
    return sums;
}
template <int kMaxCode>
KVIK_INLINE I32 dot4_repeated(I32 sums, Bytes codes, const int8_t* p) {
    return dot4<kMaxCode>(sums, codes, repeat4(p));
}
KVIK_INLINE Bytes shift_lanes(Bytes a, const int32_t* bits) {
    const uint32_t n = static_cast<uint32_t>(*bits);
    return each_bytes([&](int i) { return bit_cast<Ushort8>(bit_cast<Uint4>(a.q[i]) >> n); });
}
KVIK_INLINE I32 low_bits(Bytes a, int32_t mask) {
    I32 out;
    for (int i = 0; i < 4; ++i) out.q[i] = bit_cast<Int4>(a.q[i]) & mask;
    return out;
}
KVIK_INLINE I32 top_bytes(Bytes a) {
    I32 out;
    for (int i = 0; i < 4; ++i) out.q[i] = bit_cast<Int4>(bit_cast<Uint4>(a.q[i]) >> 24);
    return out;
}
KVIK_INLINE I32 add_product(I32 sums, I32 codes, const int32_t* factor) {
    for (int i = 0; i < 4; ++i) sums.q[i] += codes.q[i] * *factor;
    return sums;
}

constexpr int kDotRows = 2, kDotPanels = 1, kDotSums = 2;

KVIK_INLINE void store_i16(int16_t* p, F32 a) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int16_t>(a.q[i / 4][i % 4]);
}
using PairSums = I32;

KVIK_INLINE PairSums dot2(PairSums sums, Bytes a, Bytes b) {
    for (int i = 0; i < 4; ++i) {
        const Int4 left = bit_cast<Int4>(a.q[i]), right = bit_cast<Int4>(b.q[i]);
        const Int4 even_left = bit_cast<Int4>(bit_cast<Uint4>(left) << 16) >> 16;
        const Int4 even_right = bit_cast<Int4>(bit_cast<Uint4>(right) << 16) >> 16;
        sums.q[i] += even_left * even_right + (left >> 16) * (right >> 16);
    }
    return sums;
}

}  // namespace kvik::KVIK_ISA
