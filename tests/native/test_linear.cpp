// pack_rows and linear, against sums in double precision.
#include <algorithm>

#include "ops.h"

namespace kvik::test {
namespace {

COVERS(linear);
COVERS(pack_rows);

struct Shape {
    int64_t m, n, k;
};

std::string text(const Shape& s, bool is_bf16) { return words("m", s.m, "n", s.n, "k", s.k, "bf16", is_bf16); }

// Every number of rows, with widths and depths that end inside a panel, a vector or a pair; then products that are
// taken in several blocks of K and of rows, and such as are shared among threads.
std::vector<Shape> shapes() {
    std::vector<Shape> all;
    const int64_t widths[] = {1, 15, 16, 17, 33, 64, 65, 80}, depths[] = {1, 2, 3, 16, 31, 33, 64, 127};
    int64_t i = 0;
    for (const int64_t m : tail_sizes())
        for (int times = 0; times < 6; ++times, ++i) all.push_back({m, widths[i % 8], depths[(i + i / 8) % 8]});
    for (const Shape& s : {Shape{1, 48, 513}, Shape{3, 40, 1024}, Shape{7, 33, 1031}, Shape{13, 130, 300},
                           Shape{64, 70, 65}, Shape{200, 18, 520}})
        all.push_back(s);
    return all;
}

template <class T>
int64_t packed_elements(int64_t n, int64_t k) {
    const int64_t pairs = sizeof(T) == 2 ? 2 : 1;
    return (n + 15) / 16 * 16 * ((k + pairs - 1) / pairs * pairs);
}

// Packs in two calls, cut where a panel may not end.
template <class T>
std::vector<T> packed(const Setup& setup, const std::vector<T>& weight, int64_t n, int64_t k) {
    Guarded<T> out = setup.room<T>(packed_elements<T>(n, k));
    std::memset(static_cast<void*>(out.data()), 0, static_cast<size_t>(out.size()) * sizeof(T));
    const int64_t cut = n / 3;
    const Guarded<T> first = setup.input(std::vector<T>(weight.begin(), weight.begin() + cut * k));
    const Guarded<T> second = setup.input(std::vector<T>(weight.begin() + cut * k, weight.end()));
    setup.table.pack_rows(out.data(), k, 0, first.data(), cut, kFormat<T>, kCode<T>);
    setup.table.pack_rows(out.data(), k, cut, second.data(), n - cut, kFormat<T>, kCode<T>);
    return out.copy();
}

std::vector<float> product(const Setup& setup, const std::vector<float>& x, const void* weight, const float* bias,
                           const Shape& s, int format) {
    const Guarded<float> input = setup.input(x);
    Guarded<float> out = setup.room<float>(s.m * s.n);
    setup.table.linear(out.data(), s.n, input.data(), weight, bias, s.m, s.n, s.k, format);
    return out.copy();
}

template <class T>
void check_product(const std::vector<float>& out, const std::vector<float>& x, const std::vector<T>& weight,
                   const std::vector<float>& bias, const Shape& s) {
    for (int64_t row = 0; row < s.m; ++row)
        for (int64_t column = 0; column < s.n; ++column) {
            double sum = bias[column], size = std::fabs(sum);
            for (int64_t i = 0; i < s.k; ++i) {
                const double term = value_of(x[row * s.k + i]) * value_of(weight[column * s.k + i]);
                sum += term;
                size += std::fabs(term);
            }
            // Each of k + 1 roundings is off by half a unit of a partial sum, at most.
            const double tolerance = static_cast<double>(2 * s.k + 2) * 0x1p-24 * size;
            CHECK_NEAR(out[row * s.n + column], sum, tolerance, row * s.n + column);
        }
}

template <class T>
void linear_case(const Setup& setup, const Shape& s, Random& random) {
    at(text(s, sizeof(T) == 2));
    const auto weight = random_elements<T>(s.n * s.k, random);
    const auto x = random_elements(s.m * s.k, random), bias = random_elements(s.n, random);
    const Guarded<T> panels = setup.input(packed(setup, weight, s.n, s.k));
    const Guarded<float> guarded_bias = setup.input(bias);
    check_product(product(setup, x, panels.data(), guarded_bias.data(), s, kFormat<T>), x, weight, bias, s);
    const std::vector<float> none(s.n, 0.0f);
    check_product(product(setup, x, panels.data(), nullptr, s, kFormat<T>), x, weight, none, s);
}

TEST(linear_is_the_sum_of_products) {
    Random random(1);
    for (const Shape& s : shapes()) {
        linear_case<float>(setup, s, random);
        linear_case<bf16>(setup, s, random);
    }
}

// Rows of the one dtype packed as the other, and of fp16: rounded to nearest as they are packed.
template <class S, class T>
void conversion_case(const Setup& setup, Random& random) {
    const int64_t n = 19, k = 37;
    const auto rows = random_elements<S>(n * k, random);
    const Guarded<S> source = setup.input(rows);
    Guarded<T> out = setup.room<T>(packed_elements<T>(n, k));
    setup.table.pack_rows(out.data(), k, 0, source.data(), n, kFormat<T>, kCode<S>);
    const int64_t unit = sizeof(T) == 2 ? 2 : 1, steps = (k + unit - 1) / unit;
    for (int64_t row = 0; row < n; ++row)
        for (int64_t i = 0; i < k; ++i) {
            const int64_t place = ((row / 16 * steps + i / unit) * 16 + row % 16) * unit + i % unit;
            const double expected = value_of(rows[row * k + i]);
            CHECK_NEAR(value_of(out[place]), expected, std::fabs(expected) * kHalfUlp<T>, row * k + i);
        }
}

TEST(pack_rows_converts) {
    Random random(2);
    conversion_case<float, bf16>(setup, random);
    conversion_case<f16, bf16>(setup, random);
    conversion_case<bf16, float>(setup, random);
    conversion_case<f16, float>(setup, random);
}

// The product goes into some columns of a wider output and leaves the others alone.
TEST(linear_writes_its_columns_only) {
    Random random(5);
    const Shape s = {7, 21, 35};
    const auto x = random_elements(s.m * s.k, random);
    const Guarded<float> panels = setup.input(packed(setup, random_elements(s.n * s.k, random), s.n, s.k));
    const auto narrow = product(setup, x, panels.data(), nullptr, s, kFormatF32);
    const Guarded<float> input = setup.input(x);
    Guarded<float> wide = setup.room<float>((s.m - 1) * 40 + s.n);
    setup.table.linear(wide.data(), 40, input.data(), panels.data(), nullptr, s.m, s.n, s.k, kFormatF32);
    for (int64_t i = 0; i < wide.size(); ++i) {
        const bool is_ours = i % 40 < s.n;
        CHECK(is_ours ? wide[i] == narrow[i / 40 * s.n + i % 40] : std::isnan(wide[i]), words("element", i));
    }
}

// Not a number in one row stays in that row, and infinity in one row of the weight in that column.
TEST(linear_keeps_flaws_where_they_are) {
    Random random(3);
    for (const int64_t m : {1, 2, 5, 7, 13, 33}) {
        const Shape s = {m, 35, 51};
        at(text(s, false));
        auto x = random_elements(m * s.k, random, 0.5f);
        for (float& a : x) a += 1.0f;
        auto weight = random_elements(s.n * s.k, random);
        weight[20 * s.k + 50] = kInf;
        x[(m - 1) * s.k + 50] = m > 1 ? kNan : 1.0f;
        const Guarded<float> panels = setup.input(packed(setup, weight, s.n, s.k));
        const auto out = product(setup, x, panels.data(), nullptr, s, kFormatF32);
        for (int64_t i = 0; i < m * s.n; ++i) {
            const bool nan_row = m > 1 && i / s.n == m - 1, inf_column = i % s.n == 20;
            CHECK(std::isnan(out[i]) == nan_row, "NaN " + words("at", i));
            CHECK(nan_row || std::isinf(out[i]) == inf_column, "infinity " + words("at", i));
        }
    }
}

template <class T>
void invariance_case(const Setup& setup) {
    Random random(4);
    const Shape s = {70, 100, 1050};
    const auto x = random_elements(s.m * s.k, random);
    const Guarded<T> panels = setup.input(packed(setup, random_elements<T>(s.n * s.k, random), s.n, s.k));
    const auto all = product(setup, x, panels.data(), nullptr, s, kFormat<T>);
    for (const int threads : {1, 2, 3, 5}) {
        set_num_threads(threads);
        for (const int64_t m : {1, 2, 3, 6, 7, 16, 33, 70}) {
            at(words("threads", threads, "m", m, "bf16", sizeof(T) == 2));
            const std::vector<float> rows(x.begin(), x.begin() + m * s.k);
            const auto out = product(setup, rows, panels.data(), nullptr, {m, s.n, s.k}, kFormat<T>);
            CHECK(same_bits(out, std::vector<float>(all.begin(), all.begin() + m * s.n)), "bits depend on the batch");
        }
    }
    set_num_threads(setup.num_threads);
}

TEST(linear_does_not_depend_on_batch_or_threads) {
    if (setup.num_threads != 1) return;  // it sets the number of threads itself
    invariance_case<float>(setup);
    invariance_case<bf16>(setup);
}

}  // namespace
}  // namespace kvik::test
