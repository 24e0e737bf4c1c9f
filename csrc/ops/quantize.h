// Plain elements -> the blocks of GGUF files: the inverse of dequantize.h, for formats of 32 elements a block.
// kernels/quantize/reference.py says the same in torch.
#pragma once

#include "dequantize.h"

namespace kvik::KVIK_ISA {

struct Values32 {  // a block of values or of codes, as floats
    F32 a, b;
};
KVIK_INLINE Values32 values_at(const float* p) { return {load(p), load(p + kLanes)}; }
KVIK_INLINE float sum(Values32 v) { return reduce_add(v.a + v.b); }
KVIK_INLINE float dot(Values32 v, Values32 w) { return reduce_add(fma(v.a, w.a, v.b * w.b)); }
KVIK_INLINE Values32 minus(Values32 v, float offset) { return {v.a - set1(offset), v.b - set1(offset)}; }
KVIK_INLINE float largest(Values32 v) { return reduce_max(max(v.a, v.b)); }
KVIK_INLINE Values32 negated(Values32 v) { return {zero() - v.a, zero() - v.b}; }
KVIK_INLINE float not_finite(Values32 v) { return reduce_add((v.a - v.a) + (v.b - v.b)); }  // 0 or NaN

KVIK_INLINE F32 clamped(F32 a, float low, float high) { return max(set1(low), min(a, set1(high))); }

// The codes nearest to v / scale; the one nearest to 0 where the scale is no use.
KVIK_INLINE Values32 codes_of(Values32 v, float scale, float low, float high) {
    const float inverse = 1.0f / scale;
    const bool usable = inverse - inverse == 0.0f && scale - scale == 0.0f;
    const F32 factor = set1(usable ? inverse : 0.0f);
    return {clamped(round(v.a * factor), low, high), clamped(round(v.b * factor), low, high)};
}

// What is lost of values that become minimum + scale * code.
KVIK_INLINE float squared_error(Values32 v, float minimum, float scale, float low, float high) {
    const Values32 rest = minus(v, minimum), codes = codes_of(rest, scale, low, high);
    const F32 factor = set1(-scale), a = fma(factor, codes.a, rest.a), b = fma(factor, codes.b, rest.b);
    return dot({a, b}, {a, b});
}

KVIK_INLINE f16 half_of(float a) {
    f16 halves[kLanes];
    store(halves, set1(a));
    return halves[0];
}
KVIK_INLINE float as_half(float a) { return widen1(half_of(a)); }
KVIK_INLINE void put_half_of(uint8_t* out, float a) {
    const f16 half = half_of(a);
    std::memcpy(out, &half, sizeof half);
}

KVIK_INLINE void put_codes(uint8_t* out, Values32 codes) {
    int8_t bytes[32];
    store_i8(bytes, codes.a);
    store_i8(bytes + kLanes, codes.b);
    for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>(bytes[i] | bytes[i + 16] << 4);
}

static inline void quantize_q8_0(uint8_t* out, const float* in) {
    const Values32 v = values_at(in), w = negated(v);
    const float bad = not_finite(v);
    const float scale = as_half(bad + largest({max(v.a, w.a), max(v.b, w.b)}) / 127.0f);
    const Values32 codes = bad == 0.0f ? codes_of(v, scale, -127.0f, 127.0f) : Values32{zero(), zero()};
    put_half_of(out, scale);
    store_i8(reinterpret_cast<int8_t*>(out + 2), codes.a);
    store_i8(reinterpret_cast<int8_t*>(out + 2 + kLanes), codes.b);
}

// The number of the largest magnitude is tried at 16 codes from -9 on: cut off for the sake of the others, or leaving
// codes unused. For the codes that follow the scale is fitted by least squares.
static inline void quantize_q4_0(uint8_t* out, const float* in) {
    const Values32 v = values_at(in);
    const float bad = not_finite(v), high = largest(v), low = -largest(negated(v)), far = -low > high ? low : high;
    float best = 0.0f, least = bad == 0.0f ? dot(v, v) : 0.0f;
    for (int i = 0; i < 16 && least > 0.0f; ++i) {
        const Values32 codes = codes_of(v, far / (-9.0f + 0.25f * static_cast<float>(i)), -8.0f, 7.0f);
        const float squares = dot(codes, codes), scale = as_half(dot(v, codes) / (squares < 1.0f ? 1.0f : squares));
        const float error = squared_error(v, 0.0f, scale, -8.0f, 7.0f);
        if (error < least) best = scale, least = error;
    }
    put_half_of(out, best + bad);
    put_codes(out + 2, minus(codes_of(bad == 0.0f ? v : Values32{zero(), zero()}, best, -8.0f, 7.0f), -8.0f));
}

// The same where the range of the values is tried at 16 widths from 13 codes on, and a minimum is fitted too.
static inline void quantize_q4_1(uint8_t* out, const float* in) {
    const Values32 v = values_at(in);
    const float bad = not_finite(v), total = sum(v), low = -largest(negated(v)), range = largest(v) - low;
    float best = 0.0f, offset = as_half(total / 32.0f), least = 0.0f;
    if (bad == 0.0f) least = squared_error(v, offset, 0.0f, 0.0f, 15.0f);
    for (int i = 0; i < 16 && least > 0.0f; ++i) {
        const Values32 codes = codes_of(minus(v, low), range / (13.0f + 0.25f * static_cast<float>(i)), 0.0f, 15.0f);
        const float sum_codes = sum(codes), squares = dot(codes, codes), products = dot(v, codes);
        const float spread = 32.0f * squares - sum_codes * sum_codes, divisor = spread < 1.0f ? 1.0f : spread;
        const float scale = as_half((32.0f * products - total * sum_codes) / divisor);
        const float minimum = as_half((squares * total - sum_codes * products) / divisor);
        const float error = squared_error(v, minimum, scale, 0.0f, 15.0f);
        if (error < least) best = scale, offset = minimum, least = error;
    }
    put_half_of(out, best + bad);
    put_half_of(out + 2, offset + bad);
    put_codes(out + 4, codes_of(bad == 0.0f ? minus(v, offset) : Values32{zero(), zero()}, best, 0.0f, 15.0f));
}

static void quantize(uint8_t* out, const float* values, int format, int64_t num_blocks) {
    parallel_for(num_blocks, min_tasks(128), [=](int64_t begin, int64_t end, int) {
        for (int64_t block = begin; block < end; ++block) {
            const float* in = values + block * 32;
            if (format == kFormatQ8_0) quantize_q8_0(out + block * Q8_0::kBytes, in);
            if (format == kFormatQ4_0) quantize_q4_0(out + block * Q4_0::kBytes, in);
            if (format == kFormatQ4_1) quantize_q4_1(out + block * Q4_1::kBytes, in);
        }
    });
}

}  // namespace kvik::KVIK_ISA
