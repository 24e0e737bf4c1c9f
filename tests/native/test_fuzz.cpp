// Weights whose bytes are anything at all: what a model file may hold that somebody made up. Nothing is read or written
// outside of the buffers, and the same bytes give the same numbers. KVIK_NATIVE_FUZZ_RUNS: how many weights of each
// format per setup.
#include <cstdlib>

#include "blocks.h"
#include "ops.h"

namespace kvik::test {
namespace {

constexpr int64_t kShortRuns = 30;
constexpr int64_t kVocabulary = 37;

int64_t num_runs() {
    const char* asked = std::getenv("KVIK_NATIVE_FUZZ_RUNS");
    return asked ? std::atoll(asked) : kShortRuns;
}

// Noise, one byte over and over, or noise whose fp16 numbers are the worst there are.
std::vector<uint8_t> any_blocks(const BlockFormat& format, int64_t count, Random& random) {
    std::vector<uint8_t> data(static_cast<size_t>(count * format.bytes));
    const int64_t kind = random.below(4);
    const auto fill = static_cast<uint8_t>(random.word());
    for (uint8_t& byte : data) byte = kind == 0 ? fill : static_cast<uint8_t>(random.word());
    constexpr uint16_t kHalves[] = {0x0000, 0x8000, 0x0001, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xffff};
    for (int64_t block = 0; kind > 1 && block < count; ++block)
        for (const int64_t place : format.scales)
            std::memcpy(&data[block * format.bytes + place], &kHalves[random.below(9)], sizeof(uint16_t));
    return data;
}

template <class T>
std::vector<T> dequantized(const Setup& setup, const BlockFormat& format, const Guarded<uint8_t>& data) {
    const int64_t count = data.size() / format.bytes;
    Guarded<T> out = setup.room<T>(count * format.size);
    setup.table.dequantize(out.data(), data.data(), format.code, count, kCode<T>);
    return out.copy();
}

template <class T>
void dequantize_case(const Setup& setup, const BlockFormat& format, Random& random) {
    const int64_t count = random.below(12);
    at(std::string(format.name) + ", " + words("blocks", count));
    const Guarded<uint8_t> data = setup.input(any_blocks(format, count, random));
    CHECK(same_bits(dequantized<T>(setup, format, data), dequantized<T>(setup, format, data)), "the numbers vary");
}

TEST(fuzzed_blocks_are_dequantized_within_their_buffers) {
    Random random(71 + static_cast<uint64_t>(setup.num_threads));
    for (const BlockFormat& format : block_formats())
        for (int64_t run = 0; run < num_runs(); ++run) {
            dequantize_case<float>(setup, format, random);
            dequantize_case<bf16>(setup, format, random);
        }
}

std::vector<float> product(const Setup& setup, const BlockFormat& format, const Guarded<uint8_t>& panels,
                           const Guarded<float>& x, int64_t n, int64_t k) {
    const int64_t m = x.size() / k;
    Guarded<float> out = setup.room<float>(m * n);
    setup.table.linear(out.data(), n, x.data(), panels.data(), nullptr, m, n, k, format.code);
    return out.copy();
}

// Packed, multiplied and looked up; ids are whatever a caller may send.
void weight_case(const Setup& setup, const BlockFormat& format, Random& random) {
    const int64_t n = 1 + random.below(kVocabulary), k = format.size * (1 + random.below(3)), m = 1 + random.below(9);
    at(std::string(format.name) + ", " + words("m", m, "n", n, "k", k));
    const Guarded<uint8_t> blocks = setup.input(any_blocks(format, n * k / format.size, random));
    Guarded<uint8_t> panels = setup.room<uint8_t>((n + 15) / 16 * panel_bytes(format, k));
    std::memset(panels.data(), 0, static_cast<size_t>(panels.size()));
    setup.table.pack_blocks(panels.data(), k, 0, blocks.data(), n, format.code);
    panels.freeze();
    const Guarded<float> x = setup.input(random_elements(m * k, random));
    CHECK(same_bits(product(setup, format, panels, x, n, k), product(setup, format, panels, x, n, k)), "the sums vary");
    std::vector<int32_t> ids;
    bool is_refused = false;
    for (int64_t i = 0; i < m; ++i) {
        ids.push_back(random.below(8) ? static_cast<int32_t>(random.below(n)) : static_cast<int32_t>(random.word()));
        is_refused |= ids.back() < 0 || ids.back() >= n;
    }
    const Guarded<int32_t> guarded_ids = setup.input(ids);
    Guarded<float> rows = setup.room<float>(m * k);
    const int64_t wrong =
        setup.table.embedding(rows.data(), panels.data(), true, n, k, guarded_ids.data(), m, 1.0f, kF32, format.code);
    CHECK((wrong != -1) == is_refused, words("wrong", wrong));
}

TEST(fuzzed_weights_are_used_within_their_buffers) {
    Random random(72 + static_cast<uint64_t>(setup.num_threads));
    for (const BlockFormat& format : packed_formats())
        for (int64_t run = 0; run < num_runs(); ++run) weight_case(setup, format, random);
}

}  // namespace
}  // namespace kvik::test
