// Test data and the arithmetic that results are held against: plain, in double precision, sharing no line with csrc/.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "dtype.h"
#include "formats.h"
#include "harness.h"

namespace kvik::test {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// The same numbers in each run (splitmix64; Steele, Lea and Flood, 2014).
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t word() {
        uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    int64_t below(int64_t end) { return static_cast<int64_t>(word() % static_cast<uint64_t>(end)); }
    float between(float low, float high) {
        return low + (high - low) * static_cast<float>(word() >> 40) / static_cast<float>(1 << 24);
    }

private:
    uint64_t state_;
};

inline double value_of(float a) { return a; }
inline double value_of(bf16 a) {
    const double mantissa = (a.bits & 0x7f) / 128.0, sign = a.bits & 0x8000 ? -1 : 1;
    const int exponent = a.bits >> 7 & 0xff;
    if (exponent == 255) return mantissa ? std::nan("") : sign * HUGE_VAL;
    return sign * (exponent ? std::ldexp(1 + mantissa, exponent - 127) : std::ldexp(mantissa, -126));
}
inline double value_of(f16 a) {
    const double mantissa = (a.bits & 0x3ff) / 1024.0, sign = a.bits & 0x8000 ? -1 : 1;
    const int exponent = a.bits >> 10 & 31;
    if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
    return sign * (exponent ? std::ldexp(1 + mantissa, exponent - 15) : std::ldexp(mantissa, -14));
}

inline double value_of(int8_t a) { return a; }

template <class T>
constexpr bool kIsInt8 = std::is_same_v<T, int8_t>;

// What a value in T may be off by, relative to it, after one rounding; and the least distance of two values near 0.
template <class T>
constexpr double kHalfUlp = std::is_same_v<T, float> ? 0x1p-24 : std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-11;
template <class T>
constexpr double kTiny = std::is_same_v<T, float> ? 0x1p-149 : std::is_same_v<T, bf16> ? 0x1p-133 : 0x1p-24;

template <class T>
constexpr int kCode = std::is_same_v<T, float> ? kF32 : std::is_same_v<T, bf16> ? kBf16 : kIsInt8<T> ? kI8 : kF16;

template <class T>
constexpr int kFormat = std::is_same_v<T, float> ? kFormatF32 : std::is_same_v<T, bf16> ? kFormatBf16 : kFormatF16;

// Of ordinary test values only: halves of numbers within its range, cut off, which is as good as any value of T.
template <class T>
T element(float a) {
    if constexpr (std::is_same_v<T, float>) {
        return a;
    } else if constexpr (kIsInt8<T>) {
        return static_cast<int8_t>(std::nearbyint(a * 127));
    } else if constexpr (std::is_same_v<T, bf16>) {
        uint32_t bits;
        std::memcpy(&bits, &a, sizeof bits);
        return {static_cast<uint16_t>(bits >> 16)};
    } else {
        if (a == 0) return {0};
        int exponent;
        const double mantissa = std::frexp(std::fabs(static_cast<double>(a)), &exponent);  // in [0.5, 1)
        if (exponent < -13) return {0};
        const auto bits = static_cast<unsigned>((exponent + 14) << 10 | static_cast<int>((mantissa * 2 - 1) * 1024));
        return {static_cast<uint16_t>(bits | (a < 0 ? 0x8000u : 0u))};
    }
}

template <class T = float>
std::vector<T> random_elements(int64_t count, Random& random, float limit = 1.0f) {
    std::vector<T> all;
    all.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) all.push_back(element<T>(random.between(-limit, limit)));
    return all;
}

inline void check_near(double got, double expected, double tolerance, int64_t index, const char* file, int line) {
    if (std::fabs(got - expected) <= tolerance || (std::isnan(got) && std::isnan(expected))) return;
    if (std::isinf(expected) && got == expected) return;
    char text[160];
    std::snprintf(text, sizeof text, "element %lld is %.9g, expected %.9g within %.3g", static_cast<long long>(index), got,
                  expected, tolerance);
    fail(file, line, text);
}

// Rows and lengths at which vectors, tiles and panels end.
inline std::vector<int64_t> tail_sizes() {
    std::vector<int64_t> sizes;
    for (int64_t i = 1; i <= 17; ++i) sizes.push_back(i);
    for (const int64_t i : {31, 32, 33, 63, 64, 65}) sizes.push_back(i);
    return sizes;
}

}  // namespace kvik::test

#define CHECK_NEAR(got, expected, tolerance, index) \
    kvik::test::check_near((got), (expected), (tolerance), (index), __FILE__, __LINE__)
