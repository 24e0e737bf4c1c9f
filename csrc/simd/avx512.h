// simd.h for AVX-512 (F, BW, DQ, VL), and VNNI where the compiler's flags say so.
#pragma once

#include <immintrin.h>

namespace kvik::KVIK_ISA {

constexpr int kMaxRows = 6, kMaxPanels = 4;  // 24 accumulators of 32 registers

struct F32 {
    __m512 v;
};

KVIK_INLINE __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

KVIK_INLINE F32 zero() { return {_mm512_setzero_ps()}; }
KVIK_INLINE F32 set1(float a) { return {_mm512_set1_ps(a)}; }
KVIK_INLINE F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
KVIK_INLINE F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
KVIK_INLINE F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
KVIK_INLINE F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
KVIK_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
KVIK_INLINE F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
KVIK_INLINE F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
KVIK_INLINE F32 abs(F32 a) { return {_mm512_abs_ps(a.v)}; }
KVIK_INLINE bool any_nan(F32 a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q) != 0; }
KVIK_INLINE uint32_t equal_lanes(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
KVIK_INLINE F32 clear_lanes(F32 a, uint32_t lanes) {
    return {_mm512_maskz_mov_ps(static_cast<__mmask16>(~lanes), a.v)};
}
KVIK_INLINE F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
KVIK_INLINE F32 round(F32 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
KVIK_INLINE F32 scale2(F32 a, F32 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
KVIK_INLINE F32 select_lt(F32 a, F32 b, F32 x, F32 y) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
KVIK_INLINE float reduce_add(F32 a) { return _mm512_reduce_add_ps(a.v); }
KVIK_INLINE float reduce_max(F32 a) { return _mm512_reduce_max_ps(a.v); }

// Vectors of the larger and of the smaller, halved until one lane is left.
KVIK_INLINE Top2 reduce_max2(F32 a, F32 b) {
    const __m512 one = _mm512_max_ps(a.v, b.v), two = _mm512_min_ps(a.v, b.v);
    const __m256 one_lo = _mm512_castps512_ps256(one), one_hi = _mm512_extractf32x8_ps(one, 1);
    const __m256 two_lo = _mm512_castps512_ps256(two), two_hi = _mm512_extractf32x8_ps(two, 1);
    const __m256 first = _mm256_max_ps(one_lo, one_hi);
    const __m256 second = _mm256_max_ps(_mm256_min_ps(one_lo, one_hi), _mm256_max_ps(two_lo, two_hi));
    const __m128 f_lo = _mm256_castps256_ps128(first), f_hi = _mm256_extractf128_ps(first, 1);
    const __m128 s_lo = _mm256_castps256_ps128(second), s_hi = _mm256_extractf128_ps(second, 1);
    __m128 f = _mm_max_ps(f_lo, f_hi), s = _mm_max_ps(_mm_min_ps(f_lo, f_hi), _mm_max_ps(s_lo, s_hi));
    __m128 f_other = _mm_movehl_ps(f, f), s_other = _mm_movehl_ps(s, s);
    s = _mm_max_ps(_mm_min_ps(f, f_other), _mm_max_ps(s, s_other));
    f = _mm_max_ps(f, f_other);
    f_other = _mm_movehdup_ps(f);
    s_other = _mm_movehdup_ps(s);
    s = _mm_max_ps(_mm_min_ps(f, f_other), _mm_max_ps(s, s_other));
    return {_mm_cvtss_f32(_mm_max_ps(f, f_other)), _mm_cvtss_f32(s)};
}

KVIK_INLINE F32 widen(__m256i a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(a), 16))}; }

KVIK_INLINE __m256i narrow(F32 a) {
    const __m512i bits = _mm512_castps_si512(a.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
}
KVIK_INLINE __m256i narrow_half(F32 a) {
    return _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
KVIK_INLINE F32 round_bf16(F32 a) { return widen(narrow(a)); }

KVIK_INLINE __m256i load_half(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

KVIK_INLINE F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
KVIK_INLINE F32 load(const bf16* p) { return widen(load_half(p)); }
KVIK_INLINE F32 load(const f16* p) { return {_mm512_cvtph_ps(load_half(p))}; }
KVIK_INLINE F32 load_n(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
KVIK_INLINE F32 load_n(const bf16* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
KVIK_INLINE F32 load_n(const f16* p, int64_t n) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))};
}
KVIK_INLINE F32 load_i8(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
KVIK_INLINE F32 load_u8(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}

KVIK_INLINE void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
KVIK_INLINE void store(bf16* p, F32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a)); }
KVIK_INLINE void store(f16* p, F32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_half(a)); }
KVIK_INLINE __m128i narrow_i8(F32 a) { return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a.v)); }
KVIK_INLINE void store(int8_t* p, F32 a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_i8(a)); }
KVIK_INLINE void store_n(int8_t* p, F32 a, int64_t n) { _mm_mask_storeu_epi8(p, first_lanes(n), narrow_i8(a)); }
KVIK_INLINE void store_n(float* p, F32 a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
KVIK_INLINE void store_n(bf16* p, F32 a, int64_t n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow(a)); }
KVIK_INLINE void store_n(f16* p, F32 a, int64_t n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_half(a)); }

template <int kPart>
KVIK_INLINE F32 pair_part(const bf16* p) {
    const __m512i bits = _mm512_loadu_si512(p), upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm512_castsi512_ps(kPart == 0 ? _mm512_slli_epi32(bits, 16) : _mm512_and_si512(bits, upper))};
}

struct I32 {
    __m512i v;
};
struct Bytes {
    __m512i v;
};
constexpr int kMaxDotRows = 10, kWideRows = 6;

KVIK_INLINE I32 set1_i32(int32_t a) { return {_mm512_set1_epi32(a)}; }
KVIK_INLINE F32 to_float(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
KVIK_INLINE void store_i8(int8_t* p, F32 a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
KVIK_INLINE Bytes load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
KVIK_INLINE void store_bytes(uint8_t* p, Bytes a) { _mm512_storeu_si512(p, a.v); }
KVIK_INLINE Bytes repeat4(const int8_t* p) {
    int32_t word;
    std::memcpy(&word, p, sizeof word);
    return {_mm512_set1_epi32(word)};
}
KVIK_INLINE Bytes and_bytes(Bytes a, uint8_t mask) {
    return {_mm512_and_si512(a.v, _mm512_set1_epi8(static_cast<char>(mask)))};
}
KVIK_INLINE Bytes or_bytes(Bytes a, Bytes b) { return {_mm512_or_si512(a.v, b.v)}; }
template <int kBits>
KVIK_INLINE Bytes shift_right(Bytes a) {
    return {_mm512_srli_epi16(a.v, kBits)};
}
template <int kBits>
KVIK_INLINE Bytes shift_left(Bytes a) {
    return {_mm512_slli_epi16(a.v, kBits)};
}
KVIK_INLINE Bytes shift_lanes(Bytes a, const int32_t* bits) {
    return {_mm512_srlv_epi32(a.v, _mm512_set1_epi32(*bits))};
}
KVIK_INLINE I32 low_bits(Bytes a, int32_t mask) { return {_mm512_and_si512(a.v, _mm512_set1_epi32(mask))}; }
KVIK_INLINE I32 top_bytes(Bytes a) { return {_mm512_srli_epi32(a.v, 24)}; }

#if defined(__AVX512VNNI__)
template <int kMaxCode>
KVIK_INLINE I32 dot4(I32 sums, Bytes codes, Bytes inputs) {
    return {_mm512_dpbusd_epi32(sums.v, codes.v, inputs.v)};
}
// Compilers do not fold the broadcast into the instruction, which saves another one.
template <int kMaxCode>
KVIK_INLINE I32 dot4_repeated(I32 sums, Bytes codes, const int8_t* p) {
    struct Word {
        int8_t bytes[4];
    };
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums.v) : "v"(codes.v), "m"(*reinterpret_cast<const Word*>(p)));
    return sums;
}
KVIK_INLINE I32 add_product(I32 sums, I32 codes, const int32_t* factor) {
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sums.v) : "v"(codes.v), "m"(*factor));
    return sums;
}
#else
// Sums of two products are 16 bits: 2 * 127 * 127 fit, 255 would not, so wider codes go in two halves.
template <int kMaxCode>
KVIK_INLINE I32 dot4(I32 sums, Bytes codes, Bytes inputs) {
    const __m512i ones = _mm512_set1_epi16(1);
    if constexpr (kMaxCode <= 127) {
        return {_mm512_add_epi32(sums.v, _mm512_madd_epi16(_mm512_maddubs_epi16(codes.v, inputs.v), ones))};
    } else {
        const __m512i low = _mm512_maddubs_epi16(and_bytes(codes, 15).v, inputs.v);
        const __m512i high = _mm512_maddubs_epi16(and_bytes(shift_right<4>(codes), 15).v, inputs.v);
        const __m512i sum = _mm512_add_epi32(sums.v, _mm512_madd_epi16(low, ones));
        return {_mm512_add_epi32(sum, _mm512_madd_epi16(high, _mm512_set1_epi16(16)))};
    }
}
template <int kMaxCode>
KVIK_INLINE I32 dot4_repeated(I32 sums, Bytes codes, const int8_t* p) {
    return dot4<kMaxCode>(sums, codes, repeat4(p));
}
KVIK_INLINE I32 add_product(I32 sums, I32 codes, const int32_t* factor) {
    return {_mm512_add_epi32(sums.v, _mm512_madd_epi16(codes.v, _mm512_set1_epi32(*factor)))};
}
#endif

constexpr int kDotRows = 12, kDotPanels = 4, kDotSums = 24;

KVIK_INLINE void store_i16(int16_t* p, F32 a) {
    const __m256i words = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a.v));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words);
}
// In the type that the instruction has for the compiler: in __m512i, which is of 64-bit elements, sums that go around a
// loop are moved to memory and back.
struct PairSums {
    typedef int32_t Lanes __attribute__((vector_size(64)));
    Lanes v;
};

KVIK_INLINE F32 to_float(PairSums a) { return {_mm512_cvtepi32_ps(reinterpret_cast<__m512i>(a.v))}; }
KVIK_INLINE PairSums dot2(PairSums sums, Bytes a, Bytes b) {
#if defined(__AVX512VNNI__)
    const __m512i sum = _mm512_dpwssd_epi32(reinterpret_cast<__m512i>(sums.v), a.v, b.v);
#else
    const __m512i sum = _mm512_add_epi32(reinterpret_cast<__m512i>(sums.v), _mm512_madd_epi16(a.v, b.v));
#endif
    return {reinterpret_cast<PairSums::Lanes>(sum)};
}

}  // namespace kvik::KVIK_ISA
