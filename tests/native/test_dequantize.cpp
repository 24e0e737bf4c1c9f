#include "blocks.h"
#include "ops.h"

namespace kvik::test {
namespace {

COVERS(dequantize);

template <class T>
std::vector<T> dequantized(const Setup& setup, const std::vector<uint8_t>& data, int code, int64_t blocks, int64_t size) {
    const Guarded<uint8_t> input = setup.input(data);
    Guarded<T> out = setup.room<T>(blocks * size);
    setup.table.dequantize(out.data(), input.data(), code, blocks, kCode<T>);
    return out.copy();
}

template <class T>
void block_case(const Setup& setup, const BlockFormat& format, int64_t count, Random& random) {
    at(std::string(format.name) + ", " + words("blocks", count, "out bytes", sizeof(T)));
    const auto data = random_blocks(format, count, random);
    const std::vector<T> out = dequantized<T>(setup, data, format.code, count, format.size);
    for (int64_t i = 0; i < count * format.size; ++i) {
        const double expected = format.value(&data[i / format.size * format.bytes], i % format.size);
        // The two terms of a format with minimums may cancel; neither is above 0.05 * 63 * 31.
        CHECK_NEAR(value_of(out[i]), expected, std::fabs(expected) * 2 * kHalfUlp<T> + 3e-5, i);
    }
}

TEST(dequantize_gives_each_element) {
    Random random(21);
    for (const BlockFormat& format : block_formats())
        for (const int64_t count : {0, 1, 2, 3, 17, 150}) {
            block_case<float>(setup, format, count, random);
            block_case<bf16>(setup, format, count, random);
        }
}

// Scales that are infinite or no number, and whatever else bytes may say.
TEST(dequantize_takes_any_bytes) {
    for (const BlockFormat& format : block_formats())
        for (const uint8_t byte : {0x00, 0x7c, 0x7f, 0x80, 0xff}) {
            at(format.name + words(" filled with", byte));
            const std::vector<uint8_t> data(static_cast<size_t>(3 * format.bytes), byte);
            const std::vector<float> out = dequantized<float>(setup, data, format.code, 3, format.size);
            for (int64_t i = 0; i < 3 * format.size; ++i)
                CHECK_NEAR(out[i], format.value(data.data(), i % format.size), 1e30, i);
        }
}

template <class S, class T>
void plain_case(const Setup& setup, int64_t count, Random& random) {
    at(words("elements", count, "from code", kCode<S>, "out bytes", sizeof(T)));
    const auto values = random_elements<S>(count, random);
    std::vector<uint8_t> data(static_cast<size_t>(count) * sizeof(S));
    if (count) std::memcpy(data.data(), values.data(), data.size());
    constexpr int kFormat = kCode<S> == kF32 ? 0 : kCode<S> == kF16 ? 1 : 2;
    const std::vector<T> out = dequantized<T>(setup, data, kFormat, count, 1);
    for (int64_t i = 0; i < count; ++i) {
        const double expected = value_of(values[i]);
        CHECK_NEAR(value_of(out[i]), expected, std::fabs(expected) * kHalfUlp<T>, i);
    }
}

TEST(dequantize_converts_plain_elements) {
    Random random(22);
    auto counts = tail_sizes();
    counts.push_back(0);
    counts.push_back(20001);
    for (const int64_t count : counts) {
        plain_case<float, bf16>(setup, count, random);
        plain_case<f16, float>(setup, count, random);
        plain_case<f16, bf16>(setup, count, random);
        plain_case<bf16, float>(setup, count, random);
    }
}

}  // namespace
}  // namespace kvik::test
