// Weights in the quantised formats: pack_blocks, linear, embedding and quantize.
#include <algorithm>

#include "blocks.h"
#include "ops.h"

namespace kvik::test {
namespace {

COVERS(pack_blocks);
COVERS(quantize);

struct Shape {
    int64_t m, n, k;
};

// Every number of rows, with one panel or several, an odd number of groups, and products in several blocks.
std::vector<Shape> shapes(const BlockFormat& format) {
    std::vector<Shape> all;
    const int64_t widths[] = {1, 16, 17, 33, 48, 65};
    int64_t i = 0;
    for (const int64_t m : tail_sizes()) {
        all.push_back({m, widths[i % 6], format.size * (1 + i % 3)});
        all.push_back({m, widths[(i + 3) % 6], format.size * (1 + (i + 1) % 3)});
        ++i;
    }
    for (const Shape& s : {Shape{1, 130, 1024}, Shape{5, 70, 768}, Shape{40, 35, 2304}, Shape{200, 40, 256}}) all.push_back(s);
    return all;
}

struct Weight {
    const BlockFormat& format;
    int64_t n, k;
    std::vector<uint8_t> blocks;

    Weight(const BlockFormat& f, int64_t rows, int64_t columns, Random& random)
        : format(f), n(rows), k(columns), blocks(random_blocks(f, rows * columns / f.size, random)) {}

    int64_t row_bytes() const { return k / format.size * format.bytes; }
    double value(int64_t row, int64_t i) const {
        return format.value(&blocks[row * row_bytes() + i / format.size * format.bytes], i % format.size);
    }
};

// In two calls, cut where a panel may not end.
std::vector<uint8_t> packed(const Setup& setup, const Weight& w) {
    Guarded<uint8_t> out = setup.room<uint8_t>((w.n + 15) / 16 * panel_bytes(w.format, w.k));
    std::memset(out.data(), 0, static_cast<size_t>(out.size()));
    const int64_t cut = w.n / 3;
    const auto middle = w.blocks.begin() + cut * w.row_bytes();
    const Guarded<uint8_t> first = setup.input(std::vector<uint8_t>(w.blocks.begin(), middle));
    const Guarded<uint8_t> second = setup.input(std::vector<uint8_t>(middle, w.blocks.end()));
    setup.table.pack_blocks(out.data(), w.k, 0, first.data(), cut, w.format.code);
    setup.table.pack_blocks(out.data(), w.k, cut, second.data(), w.n - cut, w.format.code);
    return out.copy();
}

std::vector<float> product(const Setup& setup, const std::vector<float>& x, const Guarded<uint8_t>& panels,
                           const float* bias, const Shape& s, int format) {
    const Guarded<float> input = setup.input(x);
    Guarded<float> out = setup.room<float>(s.m * s.n);
    setup.table.linear(out.data(), s.n, input.data(), panels.data(), bias, s.m, s.n, s.k, format);
    return out.copy();
}

// x as the kernel sees it: groups of 32 rounded to steps of 1/127 of the second largest of them.
std::vector<double> rounded(const std::vector<float>& x) {
    std::vector<double> out(x.size());
    for (size_t group = 0; group < x.size(); group += 32) {
        std::vector<float> sizes;
        for (size_t i = group; i < group + 32; ++i) sizes.push_back(std::fabs(x[i]));
        std::sort(sizes.begin(), sizes.end());
        const float step = std::max(sizes[30] * (1.0f / 127), sizes[31] * (1.0f / 16000)), inverse = 1.0f / step;
        for (size_t i = group; i < group + 32; ++i) out[i] = std::nearbyint(x[i] * inverse) * step;
    }
    return out;
}

void linear_case(const Setup& setup, const BlockFormat& format, const Shape& s, Random& random) {
    at(std::string(format.name) + ", " + words("m", s.m, "n", s.n, "k", s.k));
    const Weight weight(format, s.n, s.k, random);
    const auto x = random_elements(s.m * s.k, random), bias = random_elements(s.n, random);
    const Guarded<uint8_t> panels = setup.input(packed(setup, weight));
    const Guarded<float> guarded_bias = setup.input(bias);
    const auto out = product(setup, x, panels, guarded_bias.data(), s, format.code);
    const auto codes = rounded(x);
    std::vector<double> values;
    for (int64_t i = 0; i < s.n * s.k; ++i) values.push_back(weight.value(i / s.k, i % s.k));
    for (int64_t row = 0; row < s.m; ++row)
        for (int64_t column = 0; column < s.n; ++column) {
            double sum = bias[column], size = std::fabs(sum);
            for (int64_t i = 0; i < s.k; ++i) {
                const double term = codes[row * s.k + i] * values[column * s.k + i];
                sum += term;
                size += std::fabs(term);
            }
            // A group's scale, offset and sum are rounded a few times. An offset and what it is taken from may be
            // larger than the terms they leave: up to 0.05 * 63 * 31 times 127 codes' worth.
            const double tolerance = static_cast<double>(s.k / 32 + 4) * 0x1p-22 * size + 1e-4;
            CHECK_NEAR(out[row * s.n + column], sum, tolerance, row * s.n + column);
        }
}

TEST(linear_of_blocks_is_the_sum_of_products) {
    Random random(61);
    for (const BlockFormat& format : packed_formats())
        for (const Shape& s : shapes(format)) linear_case(setup, format, s, random);
}

TEST(linear_of_blocks_keeps_flaws_in_their_row) {
    Random random(62);
    for (const BlockFormat& format : packed_formats())
        for (const int64_t m : {1, 3, 9, 33})
            for (const float flaw : {kNan, kInf, -kInf}) {
                at(std::string(format.name) + ", " + words("m", m));
                const Shape s = {m, 19, format.size};
                auto x = random_elements(m * s.k, random);
                x[(m - 1) * s.k + s.k - 1] = flaw;
                const Guarded<uint8_t> panels = setup.input(packed(setup, Weight(format, s.n, s.k, random)));
                const auto out = product(setup, x, panels, nullptr, s, format.code);
                for (int64_t i = 0; i < m * s.n; ++i) CHECK(std::isnan(out[i]) == (i / s.n == m - 1), words("element", i));
            }
}

TEST(linear_of_blocks_does_not_depend_on_batch_or_threads) {
    if (setup.num_threads != 1) return;  // it sets the number of threads itself
    Random random(63);
    for (const BlockFormat& format : packed_formats()) {
        const Shape s = {50, 100, 1280};
        const auto x = random_elements(s.m * s.k, random);
        const Guarded<uint8_t> panels = setup.input(packed(setup, Weight(format, s.n, s.k, random)));
        const auto all = product(setup, x, panels, nullptr, s, format.code);
        for (const int threads : {1, 2, 3, 5}) {
            set_num_threads(threads);
            for (const int64_t m : {1, 2, 5, 9, 17, 50}) {
                at(std::string(format.name) + ", " + words("threads", threads, "m", m));
                const std::vector<float> rows(x.begin(), x.begin() + m * s.k);
                const auto out = product(setup, rows, panels, nullptr, {m, s.n, s.k}, format.code);
                CHECK(same_bits(out, std::vector<float>(all.begin(), all.begin() + m * s.n)), "bits depend on the batch");
            }
        }
    }
    set_num_threads(setup.num_threads);
}

// Codes of the largest size everywhere: sums of products reach the ends of what 8 and 16 bits could hold.
TEST(linear_of_blocks_does_not_saturate) {
    for (const BlockFormat& format : packed_formats())
        for (const uint8_t byte : {0x00, 0x7f, 0x80, 0xff}) {
            at(std::string(format.name) + ", " + words("bytes", byte));
            const Shape s = {5, 16, format.size};
            Random random(64);
            Weight weight(format, s.n, s.k, random);
            for (int64_t b = 0; b < s.n; ++b)
                for (int64_t i = 0; i < format.bytes; ++i) {
                    bool is_scale = false;
                    for (const int64_t place : format.scales) is_scale |= i == place || i == place + 1;
                    if (!is_scale) weight.blocks[b * format.bytes + i] = byte;
                }
            const Guarded<uint8_t> panels = setup.input(packed(setup, weight));
            for (const float a : {1.0f, -1.0f}) {
                const std::vector<float> x(s.m * s.k, a);
                const auto out = product(setup, x, panels, nullptr, s, format.code);
                for (int64_t i = 0; i < s.m * s.n; ++i) {
                    double sum = 0;
                    for (int64_t j = 0; j < s.k; ++j) sum += a * weight.value(i % s.n, j);
                    CHECK_NEAR(out[i], sum, 1e-5 * std::fabs(sum) + 1e-3, i);
                }
            }
        }
}

TEST(embedding_gathers_rows_of_blocks) {
    Random random(65);
    for (const BlockFormat& format : packed_formats())
        for (const int64_t k : {format.size, 3 * format.size}) {
            at(std::string(format.name) + ", " + words("k", k));
            const Weight weight(format, 21, k, random);
            const Guarded<uint8_t> panels = setup.input(packed(setup, weight));
            const std::vector<int32_t> ids = {20, 0, 16, 15, 7, 20};
            const Guarded<int32_t> guarded_ids = setup.input(ids);
            Guarded<float> out = setup.room<float>(6 * k);
            const int64_t wrong = setup.table.embedding(out.data(), panels.data(), true, 21, k, guarded_ids.data(), 6, 2.0f,
                                                        kF32, format.code);
            CHECK(wrong == -1, words("id refused", wrong));
            for (int64_t i = 0; i < 6 * k; ++i) {
                const double expected = 2 * weight.value(ids[i / k], i % k);
                CHECK_NEAR(out[i], expected, std::fabs(expected) * 1e-6 + 6e-5, i);
            }
        }
}

// --- quantize ---------------------------------------------------------------------------------------------

std::vector<uint8_t> quantized(const Setup& setup, const BlockFormat& format, const std::vector<float>& values) {
    const Guarded<float> input = setup.input(values);
    const int64_t blocks = input.size() / 32;
    Guarded<uint8_t> out = setup.room<uint8_t>(blocks * format.bytes);
    setup.table.quantize(out.data(), input.data(), format.code, blocks);
    return out.copy();
}

// What is lost by the plainest choice: a scale and minimum that span the values of a block.
double plain_error(const BlockFormat& format, const float* x) {
    double low = x[0], high = x[0], far = 0, error = 0;
    for (int i = 0; i < 32; ++i) {
        low = std::min<double>(low, x[i]);
        high = std::max<double>(high, x[i]);
        far = std::fabs(x[i]) > std::fabs(far) ? x[i] : far;
    }
    const bool has_minimum = format.code == kFormatQ4_1;
    const double scale = has_minimum ? (high - low) / 15 : format.code == kFormatQ4_0 ? -far / 8 : std::fabs(far) / 127;
    const double offset = has_minimum ? low : 0, top = format.code == kFormatQ4_0 ? 7 : has_minimum ? 15 : 127;
    for (int i = 0; i < 32; ++i) {
        const double lost = x[i] - offset - scale * std::min(top, std::nearbyint((x[i] - offset) / scale));
        error += lost * lost;
    }
    return error;
}

TEST(quantize_loses_no_more_than_the_plainest_choice) {
    Random random(66);
    for (const char* name : {"q8_0", "q4_0", "q4_1"})
        for (const int64_t count : {0, 1, 2, 17, 300}) {
            const BlockFormat& format = format_of(name);
            const auto values = random_elements(count * 32, random, 3.0f);
            const auto blocks = quantized(setup, format, values);
            for (int64_t b = 0; b < count; ++b) {
                at(name + words(", blocks", count, "block", b));
                double error = 0;
                for (int64_t i = 0; i < 32; ++i) {
                    const double lost = values[b * 32 + i] - format.value(&blocks[b * format.bytes], i);
                    error += lost * lost;
                }
                // The plain choice rounds no scale; a half has 11 bits.
                CHECK(error <= 1.02 * plain_error(format, &values[b * 32]) + 1e-4, "error " + std::to_string(error));
            }
        }
}

TEST(quantize_takes_zeros_and_what_is_no_number) {
    for (const char* name : {"q8_0", "q4_0", "q4_1"})
        for (const float flaw : {0.0f, 1e-30f, kNan, kInf, -kInf}) {
            at(std::string(name) + ", " + std::to_string(flaw));
            const BlockFormat& format = format_of(name);
            std::vector<float> values(64, 0.0f);
            values[37] = flaw;
            values[63] = std::isfinite(flaw) ? 0.0f : 1.0f;
            const auto blocks = quantized(setup, format, values);
            for (int64_t i = 0; i < 64; ++i) {
                const double value = format.value(&blocks[i / 32 * format.bytes], i % 32);
                CHECK(i < 32 || std::isfinite(flaw) ? value == 0 : std::isnan(value), words("element", i));
            }
        }
}

}  // namespace
}  // namespace kvik::test
