#include <algorithm>

#include "ops.h"

namespace kvik::test {
namespace {

COVERS(rope_and_cache);

struct Shape {
    int64_t tokens, heads, kv_heads, dim, block;
    bool has_norm, unit_offset;
};

std::string text(const Shape& s) {
    return words("tokens", s.tokens, "heads", s.heads, "key heads", s.kv_heads, "dim", s.dim, "block", s.block, "norm",
                 s.has_norm, "unit offset", s.unit_offset);
}

std::vector<Shape> shapes() {
    std::vector<Shape> all;
    for (const int64_t dim : {2, 6, 16, 32, 34, 62, 64, 80, 96, 128, 130, 256})
        for (const bool norm : {false, true}) all.push_back({5, 3, 1, dim, dim % 32 ? 16 : 32, norm, dim % 3 == 0});
    for (const int64_t tokens : tail_sizes()) all.push_back({tokens, 2, 2, 32, 16, tokens % 2 == 0, false});
    all.push_back({65, 9, 3, 64, 32, true, true});
    return all;
}

constexpr int64_t kMaxPosition = 40;

// A problem, its inputs read only and its cache full of NaN.
template <class T>
struct Problem {
    Shape s;
    std::vector<float> qkv, cos_sin, q_norm, k_norm;
    std::vector<int32_t> positions, slots;
    int64_t num_blocks;

    Problem(const Shape& shape, Random& random) : s(shape) {
        qkv = random_elements(s.tokens * (s.heads + 2 * s.kv_heads) * s.dim, random, 2.0f);
        cos_sin = random_elements(kMaxPosition * s.dim, random);
        q_norm = random_elements(s.dim, random);
        k_norm = random_elements(s.dim, random);
        num_blocks = (s.tokens + s.block - 1) / s.block + 1;
        for (int64_t slot = 0; slot < num_blocks * s.block; ++slot) slots.push_back(static_cast<int32_t>(slot));
        for (size_t i = slots.size() - 1; i > 0; --i) std::swap(slots[i], slots[random.below(static_cast<int64_t>(i) + 1)]);
        slots.resize(s.tokens);
        if (s.tokens > 2) slots[1] = -1;
        for (int64_t t = 0; t < s.tokens; ++t)
            positions.push_back(static_cast<int32_t>(t == 0 ? kMaxPosition - 1 : random.below(kMaxPosition)));
    }

    // Head `head` of token t, q, then k, then v, as it must come out.
    std::vector<double> expected(int64_t t, int64_t head) const {
        const float* x = &qkv[(t * (s.heads + 2 * s.kv_heads) + head) * s.dim];
        std::vector<double> in(x, x + s.dim), out(in);
        if (head >= s.heads + s.kv_heads) return in;
        if (s.has_norm) in = normed(in, head < s.heads ? q_norm : k_norm);
        const float* turn = &cos_sin[positions[t] * s.dim];
        const int64_t half = s.dim / 2;
        for (int64_t i = 0; i < half; ++i) {
            out[i] = in[i] * turn[i] - in[i + half] * turn[i + half];
            out[i + half] = in[i + half] * turn[i] + in[i] * turn[i + half];
        }
        return out;
    }

    std::vector<double> normed(std::vector<double> in, const std::vector<float>& weight) const {
        double squares = 0;
        for (const double a : in) squares += a * a;
        const double scale = 1 / std::sqrt(squares / static_cast<double>(s.dim) + 1e-6);
        for (int64_t i = 0; i < s.dim; ++i) in[i] *= scale * (weight[i] + (s.unit_offset ? 1.0 : 0.0));
        return in;
    }
};

template <class T>
struct Result {
    std::vector<float> q;
    std::vector<T> k, v;
};

template <class T>
Result<T> run(const Setup& setup, const Problem<T>& p) {
    const Shape& s = p.s;
    const int64_t cache = p.num_blocks * s.kv_heads * s.dim * s.block;
    const int64_t scales = kIsInt8<T> ? p.num_blocks * s.kv_heads * 8 * s.block : 0;
    const auto qkv = setup.input(p.qkv), cos_sin = setup.input(p.cos_sin), q_norm = setup.input(p.q_norm);
    const auto k_norm = setup.input(p.k_norm);
    const auto positions = setup.input(p.positions), slots = setup.input(p.slots);
    auto q = setup.room<float>(s.tokens * s.heads * s.dim);
    auto k = setup.room<T>(cache + scales), v = setup.room<T>(cache);
    setup.table.rope_and_cache(q.data(), qkv.data(), cos_sin.data(), positions.data(), slots.data(), k.data(), v.data(),
                               s.has_norm ? q_norm.data() : nullptr, s.has_norm ? k_norm.data() : nullptr, s.tokens,
                               s.heads, s.kv_heads, s.dim, s.block, 1e-6f, s.unit_offset, kCode<T>);
    return {q.copy(), k.copy(), v.copy()};
}

template <class T>
void check_cache(const Problem<T>& p, const Result<T>& result, int64_t t, int64_t head) {
    const Shape& s = p.s;
    const auto key = p.expected(t, s.heads + head), value = p.expected(t, s.heads + s.kv_heads + head);
    const int64_t block = p.slots[t] / s.block * s.kv_heads + head, offset = p.slots[t] % s.block;
    const int64_t k_start = block * (s.dim + (kIsInt8<T> ? 8 : 0)) * s.block, v_start = block * s.dim * s.block;
    float scales[2] = {1, 1};  // of an int8 cache: behind the keys of the block, one per token; then those of the values
    if constexpr (kIsInt8<T>)
        for (int which = 0; which < 2; ++which)
            std::memcpy(&scales[which], &result.k[k_start + s.dim * s.block + (which * s.block + offset) * 4], 4);
    for (int64_t i = 0; i < s.dim; ++i) {
        const int64_t in_k = k_start + i * s.block + offset, in_v = v_start + offset * s.dim + i;
        if constexpr (kIsInt8<T>) {
            CHECK_NEAR(result.k[in_k] * scales[0], key[i], scales[0] * 0.501 + 1e-5, in_k);
            CHECK_NEAR(result.v[in_v] * scales[1], value[i], scales[1] * 0.501 + 1e-5, in_v);
            continue;
        }
        CHECK_NEAR(value_of(result.k[in_k]), key[i], std::fabs(key[i]) * kHalfUlp<T> + 1e-5, in_k);
        CHECK_NEAR(value_of(result.v[in_v]), value[i], std::fabs(value[i]) * kHalfUlp<T> + kTiny<T>, in_v);
    }
}

template <class T>
void rope_case(const Setup& setup, const Shape& s, Random& random) {
    at(text(s) + ", " + words("cache bytes", sizeof(T)));
    const Problem<T> p(s, random);
    const Result<T> result = run(setup, p);
    int64_t written = 0;
    for (int64_t t = 0; t < s.tokens; ++t) {
        for (int64_t head = 0; head < s.heads; ++head) {
            const auto expected = p.expected(t, head);
            for (int64_t i = 0; i < s.dim; ++i) {
                const int64_t at = (t * s.heads + head) * s.dim + i;
                CHECK_NEAR(result.q[at], expected[i], 1e-5, at);
            }
        }
        for (int64_t head = 0; p.slots[t] >= 0 && head < s.kv_heads; ++head) check_cache(p, result, t, head);
        written += p.slots[t] >= 0;
    }
    if (kIsInt8<T>) return;  // whose bytes do not tell whether they were written
    int64_t untouched = 0;
    for (const T a : result.k) untouched += std::isnan(value_of(a));
    const int64_t expected = static_cast<int64_t>(result.k.size()) - written * s.kv_heads * s.dim;
    CHECK(untouched == expected, words("slots left alone", untouched, "expected", expected));
}

TEST(rope_turns_heads_and_fills_slots) {
    Random random(31);
    for (const Shape& s : shapes()) {
        rope_case<float>(setup, s, random);
        rope_case<f16>(setup, s, random);
        rope_case<bf16>(setup, s, random);
        rope_case<int8_t>(setup, s, random);
    }
}

// Beyond the range of fp16 its end is stored, with the sign; NaN stays NaN and stays in its head.
TEST(rope_stores_what_fp16_can_hold) {
    Random random(32);
    Problem<f16> p({3, 1, 1, 16, 16, false, false}, random);
    p.slots = {2, 0, 1};
    float* value = &p.qkv[2 * 16];
    value[0] = 1e30f;
    value[1] = -kInf;
    value[2] = kNan;
    value[3] = 65504.0f;
    const auto v = run(setup, p).v;
    const f16* row = &v[2 * 16];
    CHECK(value_of(row[0]) == 65504 && value_of(row[1]) == -65504, "large values are stored as the end of the range");
    CHECK(std::isnan(value_of(row[2])) && value_of(row[3]) == 65504, "NaN stays NaN, the largest half itself");
    CHECK(!std::isnan(value_of(row[4])) && !std::isnan(value_of(v[0])), "neighbours are not touched");
}

}  // namespace
}  // namespace kvik::test
