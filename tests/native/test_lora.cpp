// lora against sums in double precision: slots, parts and ranks of all kinds, rows with and without an adapter.
#include "ops.h"

namespace kvik::test {
namespace {

COVERS(lora);

struct Shape {
    int64_t m, k, max_rank;
    std::vector<int64_t> parts;
};

constexpr int64_t kSlots = 3;

std::vector<Shape> shapes() {
    const std::vector<std::vector<int64_t>> parts = {{1}, {16}, {17, 3}, {64, 16, 16}, {33}, {5, 31, 1}, {80, 80}};
    const int64_t depths[] = {1, 2, 3, 5, 16, 33, 64, 127}, ranks[] = {1, 8, 3, 16, 17, 32};
    std::vector<Shape> all;
    size_t i = 0;
    for (const int64_t m : tail_sizes())
        for (int times = 0; times < 2; ++times, ++i) all.push_back({m, depths[i % 8], ranks[i % 6], parts[i % 7]});
    all.push_back({150, 513, 16, {130, 40, 40}});
    return all;
}

// Rows of `values` [n, k] as panels of 16 lanes, `unit` elements of a row together.
template <class T>
void pack(T* out, const std::vector<T>& values, int64_t n, int64_t k, int64_t steps) {
    const int64_t unit = std::is_same_v<T, bf16> ? 2 : 1;
    for (int64_t row = 0; row < n; ++row)
        for (int64_t i = 0; i < k; ++i)
            out[((row / 16 * steps + i / unit) * 16 + row % 16) * unit + i % unit] = values[row * k + i];
}

template <class T>
struct Adapters {
    std::vector<T> a, b;            // packed, all slots
    std::vector<int32_t> ranks;     // [slots, parts]
    std::vector<float> scales;
    std::vector<std::vector<T>> plain_a, plain_b;  // [slots x parts]
};

template <class T>
Adapters<T> random_adapters(const Shape& s, Random& random) {
    const int64_t unit = std::is_same_v<T, bf16> ? 2 : 1, parts = static_cast<int64_t>(s.parts.size());
    const int64_t a_steps = (s.k + unit - 1) / unit, b_steps = (s.max_rank + unit - 1) / unit;
    const int64_t a_size = (s.max_rank + 15) / 16 * a_steps * 16 * unit, b_panel = b_steps * 16 * unit;
    int64_t panels = 0;
    for (const int64_t n : s.parts) panels += (n + 15) / 16;
    Adapters<T> all;
    all.a.resize(static_cast<size_t>(kSlots * parts * a_size));
    all.b.resize(static_cast<size_t>(kSlots * panels * b_panel));
    for (int64_t slot = 0; slot < kSlots; ++slot) {
        int64_t panel = slot * panels;
        for (int64_t part = 0; part < parts; ++part) {
            const int64_t n = s.parts[part], rank = slot == 1 && part == 0 ? 0 : 1 + random.below(s.max_rank);
            all.plain_a.push_back(random_elements<T>(rank * s.k, random));
            all.plain_b.push_back(random_elements<T>(n * rank, random));
            pack(all.a.data() + (slot * parts + part) * a_size, all.plain_a.back(), rank, s.k, a_steps);
            pack(all.b.data() + panel * b_panel, all.plain_b.back(), n, rank, b_steps);
            all.ranks.push_back(static_cast<int32_t>(rank));
            all.scales.push_back(random.between(0.5f, 2.0f));
            panel += (n + 15) / 16;
        }
    }
    return all;
}

template <class T>
void check_row(const float* out, const float* before, const float* x, const Shape& s, const Adapters<T>& adapters,
               int32_t slot) {
    int64_t column = 0;
    for (size_t part = 0; part < s.parts.size(); ++part) {
        const size_t which = static_cast<size_t>(slot) * s.parts.size() + part;
        const int64_t rank = slot < 0 ? 0 : adapters.ranks[which];
        std::vector<double> inner(rank), inner_size(rank);  // x A^T times the scale, and the size of its terms
        for (int64_t r = 0; r < rank; ++r)
            for (int64_t i = 0; i < s.k; ++i) {
                const double term = x[i] * value_of(adapters.plain_a[which][r * s.k + i]) * adapters.scales[which];
                inner[r] += term;
                inner_size[r] += std::fabs(term);
            }
        for (int64_t n = 0; n < s.parts[part]; ++n, ++column) {
            double sum = before[column], size = std::fabs(sum);
            for (int64_t r = 0; r < rank; ++r) {
                const double b = value_of(adapters.plain_b[which][n * rank + r]);
                sum += inner[r] * b;
                size += inner_size[r] * std::fabs(b);
            }
            const double tolerance = static_cast<double>(2 * (s.k + rank) + 8) * 0x1p-24 * size;
            CHECK_NEAR(out[column], sum, rank ? tolerance : 0.0, column);
        }
    }
}

template <class T>
void lora_case(const Setup& setup, const Shape& s, Random& random) {
    at(words("m", s.m, "k", s.k, "max rank", s.max_rank, "parts", static_cast<long long>(s.parts.size()), "type", kCode<T>));
    const Adapters<T> adapters = random_adapters<T>(s, random);
    std::vector<int32_t> columns = {0}, slots;
    for (const int64_t n : s.parts) columns.push_back(columns.back() + static_cast<int32_t>(n));
    for (int64_t row = 0; row < s.m; ++row)
        slots.push_back(row && random.below(3) ? slots.back() : static_cast<int32_t>(random.below(kSlots + 1)) - 1);
    const int64_t width = columns.back(), stride = width + 3, parts = static_cast<int64_t>(s.parts.size());
    const auto x = random_elements(s.m * s.k, random), before = random_elements(s.m * width, random);
    const Guarded<float> input = setup.input(x), scales = setup.input(adapters.scales);
    const Guarded<T> a = setup.input(adapters.a), b = setup.input(adapters.b);
    const Guarded<int32_t> row_slots = setup.input(slots), ranks = setup.input(adapters.ranks);
    const Guarded<int32_t> firsts = setup.input(columns);
    Guarded<float> shrunk = setup.room<float>(s.m * parts * ((s.max_rank + 15) / 16) * 16);
    Guarded<float> out = setup.room<float>((s.m - 1) * stride + width);
    for (int64_t row = 0; row < s.m; ++row)
        for (int64_t i = 0; i < width; ++i) out[row * stride + i] = before[row * width + i];
    setup.table.lora(out.data(), stride, input.data(), shrunk.data(), a.data(), b.data(), row_slots.data(), ranks.data(),
                     scales.data(), firsts.data(), s.m, parts, s.k, s.max_rank, kCode<T>);
    for (int64_t row = 0; row < s.m; ++row)
        check_row(out.data() + row * stride, before.data() + row * width, x.data() + row * s.k, s, adapters, slots[row]);
    for (int64_t i = 0; i < out.size(); ++i)
        CHECK(i % stride < width || std::isnan(out[i]), words("element between the rows", i));
}

TEST(lora_adds_thin_products) {
    Random random(21);
    for (const Shape& s : shapes()) {
        lora_case<float>(setup, s, random);
        lora_case<bf16>(setup, s, random);
        lora_case<f16>(setup, s, random);
    }
}

}  // namespace
}  // namespace kvik::test
