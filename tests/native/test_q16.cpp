// Weights in 16-bit fixed point: pack_rows, linear and embedding, by whole numbers and doubles.
#include <algorithm>

#include "ops.h"

namespace kvik::test {
namespace {

constexpr double kWeightSteps = 16383, kInputSteps = 4095;

struct Shape {
    int64_t m, n, k;
};

std::vector<Shape> shapes() {
    std::vector<Shape> all;
    const int64_t widths[] = {1, 15, 16, 17, 33, 64, 65, 80}, depths[] = {1, 2, 31, 32, 33, 64, 95, 127};
    int64_t i = 0;
    for (const int64_t m : tail_sizes())
        for (int times = 0; times < 4; ++times, ++i) all.push_back({m, widths[i % 8], depths[(i + i / 8) % 8]});
    for (const Shape& s : {Shape{1, 150, 1040}, Shape{9, 70, 1031}, Shape{30, 130, 1100}, Shape{200, 18, 96}})
        all.push_back(s);
    return all;
}

int64_t packed_bytes(int64_t n, int64_t k) { return (n + 15) / 16 * (64 + (k + 31) / 32 * 1024); }

// Packs in two calls, cut where a panel may not end.
template <class T>
std::vector<uint8_t> packed(const Setup& setup, const std::vector<T>& weight, int64_t n, int64_t k) {
    Guarded<uint8_t> out = setup.room<uint8_t>(packed_bytes(n, k));
    std::memset(out.data(), 0, static_cast<size_t>(out.size()));
    const int64_t cut = n / 3;
    const Guarded<T> first = setup.input(std::vector<T>(weight.begin(), weight.begin() + cut * k));
    const Guarded<T> second = setup.input(std::vector<T>(weight.begin() + cut * k, weight.end()));
    setup.table.pack_rows(out.data(), k, 0, first.data(), cut, kFormatQ16, kCode<T>);
    setup.table.pack_rows(out.data(), k, cut, second.data(), n - cut, kFormatQ16, kCode<T>);
    return out.copy();
}

double largest(const double* values, int64_t size) {
    double most = 0;
    for (int64_t i = 0; i < size; ++i) most = std::max(most, std::fabs(values[i]));
    return most;
}

template <class T>
std::vector<double> doubles(const std::vector<T>& values) {
    std::vector<double> out;
    for (const T& a : values) out.push_back(value_of(a));
    return out;
}

// Each input and each weight may be off by half of its step, a little more where fp32 rounded the quotient.
void check_product(const std::vector<float>& out, const std::vector<double>& x, const std::vector<double>& weight,
                   const std::vector<float>& bias, const Shape& s) {
    for (int64_t row = 0; row < s.m; ++row)
        for (int64_t column = 0; column < s.n; ++column) {
            const double* w = &weight[column * s.k];
            const double weight_off = 0.501 * largest(w, s.k) / kWeightSteps;
            double sum = bias[column], off = 1e-6 * std::fabs(sum);
            for (int64_t from = 0; from < s.k; from += 32) {
                const int64_t size = std::min<int64_t>(32, s.k - from);
                const double* a = &x[row * s.k + from];
                const double input_off = 0.501 * largest(a, size) / kInputSteps;
                for (int64_t i = 0; i < size; ++i) {
                    sum += a[i] * w[from + i];
                    off += (std::fabs(a[i]) + input_off) * weight_off + std::fabs(w[from + i]) * input_off;
                    off += 2e-6 * std::fabs(a[i] * w[from + i]);
                }
            }
            CHECK_NEAR(out[row * s.n + column], sum, off, row * s.n + column);
        }
}

template <class T>
void linear_case(const Setup& setup, const Shape& s, Random& random) {
    at(words("m", s.m, "n", s.n, "k", s.k, "rows in", sizeof(T)));
    const auto weight = random_elements<T>(s.n * s.k, random);
    const auto x = random_elements(s.m * s.k, random), bias = random_elements(s.n, random);
    const Guarded<uint8_t> panels = setup.input(packed(setup, weight, s.n, s.k));
    const Guarded<float> input = setup.input(x), guarded_bias = setup.input(bias);
    Guarded<float> out = setup.room<float>(s.m * s.n);
    setup.table.linear(out.data(), s.n, input.data(), panels.data(), guarded_bias.data(), s.m, s.n, s.k, kFormatQ16);
    check_product(out.copy(), doubles(x), doubles(weight), bias, s);
}

TEST(linear_q16_is_near_the_sum_of_products) {
    Random random(1);
    for (const Shape& s : shapes()) {
        linear_case<float>(setup, s, random);
        linear_case<bf16>(setup, s, random);
    }
}

TEST(linear_q16_holds_the_largest_sums) {
    const Shape s = {13, 40, 64};
    std::vector<float> x(s.m * s.k), weight(s.n * s.k);
    for (int64_t i = 0; i < s.m * s.k; ++i) x[i] = i % 2 ? 4095.0f : -4095.0f;
    for (int64_t i = 0; i < s.n * s.k; ++i) weight[i] = (i % 2 ? 16383.0f : -16383.0f) * (i / s.k % 3 ? 1 : -1);
    const Guarded<uint8_t> panels = setup.input(packed(setup, weight, s.n, s.k));
    const Guarded<float> input = setup.input(x);
    Guarded<float> out = setup.room<float>(s.m * s.n);
    setup.table.linear(out.data(), s.n, input.data(), panels.data(), nullptr, s.m, s.n, s.k, kFormatQ16);
    for (int64_t i = 0; i < s.m * s.n; ++i)
        CHECK_NEAR(out[i], 64.0 * 4095 * 16383 * (i % s.n % 3 ? 1 : -1), 64.0 * 4095 * 16383 * 1e-6, i);
}

TEST(embedding_reads_q16_rows) {
    Random random(2);
    for (const int64_t size : {1, 31, 64, 100}) {
        at(words("size", size));
        const int64_t num_rows = 21;
        const auto weight = random_elements(num_rows * size, random);
        const Guarded<uint8_t> panels = setup.input(packed(setup, weight, num_rows, size));
        const Guarded<int32_t> ids = setup.input(std::vector<int32_t>{20, 0, 16, 15});
        Guarded<float> out = setup.room<float>(4 * size);
        const int64_t wrong = setup.table.embedding(out.data(), panels.data(), true, num_rows, size, ids.data(), 4, 2.0f,
                                                    kF32, kFormatQ16);
        CHECK(wrong == -1, words("wrong", wrong));
        const auto rows = doubles(weight);
        for (int64_t i = 0; i < 4 * size; ++i) {
            const double* row = &rows[ids[i / size] * size];
            CHECK_NEAR(out[i], 2 * row[i % size], 1.01 * largest(row, size) / kWeightSteps, i);
        }
    }
}

}  // namespace
}  // namespace kvik::test
