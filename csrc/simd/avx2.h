// simd.h for AVX2 with FMA and F16C: two 256-bit halves.
#pragma once

#include <immintrin.h>

namespace kvik::KVIK_ISA {

constexpr int kMaxRows = 4, kMaxPanels = 1;  // 8 accumulators of 16 registers

struct F32 {
    __m256 lo, hi;
};

KVIK_INLINE F32 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
KVIK_INLINE F32 set1(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
KVIK_INLINE F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
KVIK_INLINE F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
KVIK_INLINE F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
KVIK_INLINE F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
KVIK_INLINE F32 fma(F32 a, F32 b, F32 c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
KVIK_INLINE F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
KVIK_INLINE F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
KVIK_INLINE F32 abs(F32 a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
KVIK_INLINE bool any_nan(F32 a) {
    const __m256 lo = _mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), hi = _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q);
    return _mm256_movemask_ps(_mm256_or_ps(lo, hi)) != 0;
}
KVIK_INLINE uint32_t equal_lanes(F32 a, F32 b) {
    const int lo = _mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ));
    const int hi = _mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ));
    return static_cast<uint32_t>(lo | hi << 8);
}
KVIK_INLINE F32 clear_lanes(F32 a, uint32_t lanes) {
    const __m256i bits = _mm256_set1_epi32(static_cast<int>(lanes));
    const __m256i lo = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), hi = _mm256_slli_epi32(lo, 8);
    const __m256 clear_lo = _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, lo), lo));
    const __m256 clear_hi = _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, hi), hi));
    return {_mm256_andnot_ps(clear_lo, a.lo), _mm256_andnot_ps(clear_hi, a.hi)};
}
KVIK_INLINE F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
KVIK_INLINE F32 round(F32 a) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.lo, kNearest), _mm256_round_ps(a.hi, kNearest)};
}
KVIK_INLINE F32 select_lt(F32 a, F32 b, F32 x, F32 y) {
    return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
            _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}

// In two steps, for 2^n itself may be out of range where a * 2^n is not.
KVIK_INLINE __m256 scale2_half(__m256 a, __m256 n) {
    const __m256i whole = _mm256_cvtps_epi32(n), first = _mm256_srai_epi32(whole, 1);
    const __m256i second = _mm256_sub_epi32(whole, first), bias = _mm256_set1_epi32(127);
    const __m256 f = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
    const __m256 s = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, f), s);
}
KVIK_INLINE F32 scale2(F32 a, F32 n) { return {scale2_half(a.lo, n.lo), scale2_half(a.hi, n.hi)}; }

KVIK_INLINE float reduce_add(F32 a) {
    const __m256 s = _mm256_add_ps(a.lo, a.hi);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}
KVIK_INLINE float reduce_max(F32 a) {
    const __m256 s = _mm256_max_ps(a.lo, a.hi);
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_shuffle_ps(t, t, 1)));
}

KVIK_INLINE Top2 reduce_max2(F32 a, F32 b) {
    const __m256 one_lo = _mm256_max_ps(a.lo, b.lo), one_hi = _mm256_max_ps(a.hi, b.hi);
    const __m256 two_lo = _mm256_min_ps(a.lo, b.lo), two_hi = _mm256_min_ps(a.hi, b.hi);
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

KVIK_INLINE __m256 widen(__m128i a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(a), 16)); }

// The bits of the rounded value stay in the upper half of each lane.
KVIK_INLINE __m256i rounded_bits(__m256 a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm256_and_si256(_mm256_blendv_epi8(rounded, quiet, nan), upper);
}
KVIK_INLINE F32 round_bf16(F32 a) {
    return {_mm256_castsi256_ps(rounded_bits(a.lo)), _mm256_castsi256_ps(rounded_bits(a.hi))};
}
KVIK_INLINE __m256i narrow(F32 a) {
    const __m256i lo = _mm256_srli_epi32(rounded_bits(a.lo), 16), hi = _mm256_srli_epi32(rounded_bits(a.hi), 16);
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
}

KVIK_INLINE __m128i load_half(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

KVIK_INLINE F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
KVIK_INLINE F32 load(const bf16* p) { return {widen(load_half(p)), widen(load_half(p + 8))}; }
KVIK_INLINE F32 load(const f16* p) { return {_mm256_cvtph_ps(load_half(p)), _mm256_cvtph_ps(load_half(p + 8))}; }
KVIK_INLINE F32 load_i8(const int8_t* p) {
    const __m128i a = load_half(p);
    const __m128i b = _mm_srli_si128(a, 8);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b))};
}
KVIK_INLINE F32 load_u8(const uint8_t* p) {
    const __m128i a = load_half(p);
    const __m128i b = _mm_srli_si128(a, 8);
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(a)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b))};
}

KVIK_INLINE void store(float* p, F32 a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
KVIK_INLINE void store(bf16* p, F32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a)); }
KVIK_INLINE void store(f16* p, F32 a) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    __m128i* q = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(q, _mm256_cvtps_ph(a.lo, kNearest));
    _mm_storeu_si128(q + 1, _mm256_cvtps_ph(a.hi, kNearest));
}
KVIK_INLINE void store(int8_t* p, F32 a) {
    // packs works within halves: the four dwords are the bytes of lanes 0-3, 8-11, 4-7, 12-15.
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_shuffle_epi32(bytes, 0xd8));
}

// Tails go through a full buffer: AVX2 masks no 16-bit lanes.
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
KVIK_INLINE __m256 pair_part_of(__m256i bits) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm256_castsi256_ps(kPart == 0 ? _mm256_slli_epi32(bits, 16) : _mm256_and_si256(bits, upper));
}
template <int kPart>
KVIK_INLINE F32 pair_part(const bf16* p) {
    const __m256i* q = reinterpret_cast<const __m256i*>(p);
    return {pair_part_of<kPart>(_mm256_loadu_si256(q)), pair_part_of<kPart>(_mm256_loadu_si256(q + 1))};
}

struct I32 {
    __m256i lo, hi;
};
struct Bytes {
    __m256i lo, hi;
};
constexpr int kMaxDotRows = 3, kWideRows = 0;

KVIK_INLINE I32 set1_i32(int32_t a) { return {_mm256_set1_epi32(a), _mm256_set1_epi32(a)}; }
KVIK_INLINE F32 to_float(I32 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
KVIK_INLINE void store_i8(int8_t* p, F32 a) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
KVIK_INLINE Bytes load_bytes(const uint8_t* p) {
    const __m256i* q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
KVIK_INLINE void store_bytes(uint8_t* p, Bytes a) {
    __m256i* q = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(q, a.lo);
    _mm256_storeu_si256(q + 1, a.hi);
}
KVIK_INLINE Bytes repeat4(const int8_t* p) {
    int32_t word;
    std::memcpy(&word, p, sizeof word);
    return {_mm256_set1_epi32(word), _mm256_set1_epi32(word)};
}
KVIK_INLINE Bytes and_bytes(Bytes a, uint8_t mask) {
    const __m256i b = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(a.lo, b), _mm256_and_si256(a.hi, b)};
}
KVIK_INLINE Bytes or_bytes(Bytes a, Bytes b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
template <int kBits>
KVIK_INLINE Bytes shift_right(Bytes a) {
    return {_mm256_srli_epi16(a.lo, kBits), _mm256_srli_epi16(a.hi, kBits)};
}
template <int kBits>
KVIK_INLINE Bytes shift_left(Bytes a) {
    return {_mm256_slli_epi16(a.lo, kBits), _mm256_slli_epi16(a.hi, kBits)};
}

// Sums of two products are 16 bits: 2 * 127 * 127 fit, 255 would not, so wider codes go in two halves.
template <int kMaxCode>
KVIK_INLINE __m256i dot4_half(__m256i sums, __m256i codes, __m256i inputs) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (kMaxCode <= 127) {
        return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, inputs), ones));
    } else {
        const __m256i mask = _mm256_set1_epi8(15);
        const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), inputs);
        const __m256i high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), mask), inputs);
        const __m256i sum = _mm256_add_epi32(sums, _mm256_madd_epi16(low, ones));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(high, _mm256_set1_epi16(16)));
    }
}
template <int kMaxCode>
KVIK_INLINE I32 dot4(I32 sums, Bytes codes, Bytes inputs) {
    return {dot4_half<kMaxCode>(sums.lo, codes.lo, inputs.lo), dot4_half<kMaxCode>(sums.hi, codes.hi, inputs.hi)};
}
template <int kMaxCode>
KVIK_INLINE I32 dot4_repeated(I32 sums, Bytes codes, const int8_t* p) {
    return dot4<kMaxCode>(sums, codes, repeat4(p));
}
KVIK_INLINE Bytes shift_lanes(Bytes a, const int32_t* bits) {
    const __m256i n = _mm256_set1_epi32(*bits);
    return {_mm256_srlv_epi32(a.lo, n), _mm256_srlv_epi32(a.hi, n)};
}
KVIK_INLINE I32 low_bits(Bytes a, int32_t mask) {
    const __m256i b = _mm256_set1_epi32(mask);
    return {_mm256_and_si256(a.lo, b), _mm256_and_si256(a.hi, b)};
}
KVIK_INLINE I32 top_bytes(Bytes a) { return {_mm256_srli_epi32(a.lo, 24), _mm256_srli_epi32(a.hi, 24)}; }
KVIK_INLINE I32 add_product(I32 sums, I32 codes, const int32_t* factor) {
    const __m256i b = _mm256_set1_epi32(*factor);
    return {_mm256_add_epi32(sums.lo, _mm256_madd_epi16(codes.lo, b)),
            _mm256_add_epi32(sums.hi, _mm256_madd_epi16(codes.hi, b))};
}

constexpr int kDotRows = 6, kDotPanels = 1, kDotSums = 6;  // 12 registers of 16

KVIK_INLINE void store_i16(int16_t* p, F32 a) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, 0xd8));
}
using PairSums = I32;

KVIK_INLINE PairSums dot2(PairSums sums, Bytes a, Bytes b) {
    return {_mm256_add_epi32(sums.lo, _mm256_madd_epi16(a.lo, b.lo)),
            _mm256_add_epi32(sums.hi, _mm256_madd_epi16(a.hi, b.hi))};
}

}  // namespace kvik::KVIK_ISA
