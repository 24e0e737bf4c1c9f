// Ops that take rows one by one: the norms, the gated activation and the embedding.
#include "ops.h"

namespace kvik::test {
namespace {

COVERS(rms_norm);
COVERS(add_rms_norm);
COVERS(gated_activation);
COVERS(embedding);

struct Shape {
    int64_t rows, size;
};

// Ends inside a vector, and rows long enough to be shared among threads.
std::vector<Shape> shapes() {
    std::vector<Shape> all;
    for (const int64_t size : tail_sizes()) all.push_back({1 + size % 5, size});
    for (const int64_t rows : tail_sizes()) all.push_back({rows, 33});
    for (const Shape& s : {Shape{1, 1030}, Shape{7, 4100}, Shape{33, 2049}}) all.push_back(s);
    return all;
}

// --- norms --------------------------------------------------------------------------------------------

template <class T>
void check_norm(const std::vector<T>& out, const std::vector<double>& x, const std::vector<T>& weight, const Shape& s,
                bool unit_offset) {
    for (int64_t row = 0; row < s.rows; ++row) {
        double squares = 0;
        for (int64_t i = 0; i < s.size; ++i) squares += x[row * s.size + i] * x[row * s.size + i];
        const double scale = 1 / std::sqrt(squares / static_cast<double>(s.size) + 1e-5);
        for (int64_t i = 0; i < s.size; ++i) {
            const double w = value_of(weight[i]) + (unit_offset ? 1 : 0);
            const double expected = x[row * s.size + i] * scale * w;
            CHECK_NEAR(value_of(out[row * s.size + i]), expected, std::fabs(expected) * 3 * kHalfUlp<T> + 1e-5,
                       row * s.size + i);
        }
    }
}

template <class T>
std::vector<double> widened(const std::vector<T>& values) {
    std::vector<double> all;
    for (const T a : values) all.push_back(value_of(a));
    return all;
}

template <class T>
void norm_case(const Setup& setup, const Shape& s, bool unit_offset, Random& random) {
    at(words("rows", s.rows, "size", s.size, "unit offset", unit_offset, "bytes", sizeof(T)));
    const auto x = random_elements<T>(s.rows * s.size, random), weight = random_elements<T>(s.size, random);
    const auto before = random_elements<T>(s.rows * s.size, random);
    const Guarded<T> input = setup.input(x), w = setup.input(weight);

    Guarded<T> out = setup.room<T>(s.rows * s.size);
    setup.table.rms_norm(out.data(), input.data(), w.data(), s.rows, s.size, 1e-5f, unit_offset, kCode<T>);
    check_norm(out.copy(), widened(x), weight, s, unit_offset);

    Guarded<T> residual = setup.room<T>(s.rows * s.size), added = setup.room<T>(s.rows * s.size);
    for (int64_t i = 0; i < residual.size(); ++i) residual[i] = before[i];
    setup.table.add_rms_norm(added.data(), input.data(), residual.data(), w.data(), s.rows, s.size, 1e-5f, unit_offset,
                             kCode<T>);
    for (int64_t i = 0; i < residual.size(); ++i) {
        const double sum = value_of(x[i]) + value_of(before[i]);
        CHECK_NEAR(value_of(residual[i]), sum, std::fabs(sum) * kHalfUlp<T>, i);
    }
    check_norm(added.copy(), widened(residual.copy()), weight, s, unit_offset);
}

TEST(norms_are_those_of_each_row) {
    Random random(11);
    for (const Shape& s : shapes())
        for (const bool unit_offset : {false, true}) {
            norm_case<float>(setup, s, unit_offset, random);
            norm_case<bf16>(setup, s, unit_offset, random);
        }
}

TEST(norms_keep_nan_in_its_row) {
    Random random(12);
    const Shape s = {5, 35};
    auto x = random_elements(s.rows * s.size, random);
    x[2 * s.size + 34] = kNan;
    x[3 * s.size] = kInf;
    const Guarded<float> input = setup.input(x), weight = setup.input(std::vector<float>(s.size, 1.0f));
    Guarded<float> out = setup.room<float>(s.rows * s.size);
    setup.table.rms_norm(out.data(), input.data(), weight.data(), s.rows, s.size, 1e-5f, false, kF32);
    for (int64_t i = 0; i < out.size(); ++i) {
        const int64_t row = i / s.size;
        CHECK(std::isnan(out[i]) == (row == 2 || i == 3 * s.size), words("element", i));
    }
}

// --- the gated activation -------------------------------------------------------------------------------

double activated(double a, int kind) {
    if (kind == 0) return a / (1 + std::exp(-a));
    return 0.5 * a * (1 + std::tanh(std::sqrt(2 / M_PI) * (a + 0.044715 * a * a * a)));
}

template <class T>
void gate_case(const Setup& setup, const Shape& s, int kind, Random& random) {
    at(words("rows", s.rows, "size", s.size, "kind", kind, "bytes", sizeof(T)));
    const auto x = random_elements<T>(s.rows * 2 * s.size, random, 8.0f);
    const Guarded<T> input = setup.input(x);
    Guarded<T> out = setup.room<T>(s.rows * s.size);
    setup.table.gated_activation(out.data(), input.data(), s.rows, s.size, kind, kCode<T>);
    for (int64_t i = 0; i < out.size(); ++i) {
        const int64_t gate = i / s.size * 2 * s.size + i % s.size;
        const double expected = activated(value_of(x[gate]), kind) * value_of(x[gate + s.size]);
        CHECK_NEAR(value_of(out[i]), expected, std::fabs(expected) * (3 * kHalfUlp<T> + 2e-6) + 1e-6, i);
    }
}

TEST(gated_activation_is_act_of_gate_times_up) {
    Random random(13);
    for (const Shape& s : shapes())
        for (const int kind : {0, 1}) {
            gate_case<float>(setup, s, kind, random);
            gate_case<bf16>(setup, s, kind, random);
        }
}

TEST(gated_activation_takes_what_is_no_number) {
    const std::vector<float> gates = {kNan, kInf, -kInf, 1e30f, -1e30f, 0.0f, 88.0f, -88.0f, 1.0f};
    std::vector<float> x = gates;
    x.insert(x.end(), gates.size(), 2.0f);
    const Guarded<float> input = setup.input(x);
    for (const int kind : {0, 1}) {
        Guarded<float> out = setup.room<float>(static_cast<int64_t>(gates.size()));
        setup.table.gated_activation(out.data(), input.data(), 1, out.size(), kind, kF32);
        CHECK(std::isnan(out[0]) && out[1] == kInf && out[3] == 2e30f, "NaN, infinity and large gates");
        CHECK(out[4] == 0 && out[5] == 0 && out[6] == 176.0f, "closed gates, and where exp is near its end");
        CHECK_NEAR(out[8], 2 * activated(1, kind), 1e-6, 8);
    }
}

// --- the embedding ----------------------------------------------------------------------------------------

template <class T, class S>
void embedding_case(const Setup& setup, int64_t size, int64_t count, bool is_packed, float scale, Random& random) {
    at(words("size", size, "count", count, "packed", is_packed, "out bytes", sizeof(T), "table code", kCode<S>));
    const int64_t num_rows = 21, pair = sizeof(S) == 2 ? 2 : 1;
    const auto table = random_elements<S>(num_rows * size, random);
    const Guarded<S> plain = setup.input(table);
    Guarded<S> panels = setup.room<S>(is_packed ? 32 * ((size + pair - 1) / pair * pair) : 0);
    if (is_packed) setup.table.pack_rows(panels.data(), size, 0, plain.data(), num_rows, kFormat<S>, kCode<S>);
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(i == 0 ? num_rows - 1 : random.below(num_rows)));
    const Guarded<int32_t> guarded_ids = setup.input(ids);
    Guarded<T> out = setup.room<T>(count * size);
    const int64_t wrong = setup.table.embedding(out.data(), is_packed ? panels.data() : plain.data(), is_packed, num_rows,
                                                size, guarded_ids.data(), count, scale, kCode<T>, kFormat<S>);
    CHECK(wrong == -1, words("id refused", wrong));
    for (int64_t i = 0; i < count * size; ++i) {
        const double expected = value_of(table[ids[i / size] * size + i % size]) * static_cast<double>(scale);
        CHECK_NEAR(value_of(out[i]), expected, std::fabs(expected) * 4 * kHalfUlp<T>, i);
    }
}

TEST(embedding_gathers_rows) {
    Random random(14);
    for (const int64_t size : {1, 2, 15, 17, 33, 64, 1031})
        for (const int64_t count : {0, 1, 3, 16, 17})
            for (const float scale : {1.0f, 3.0f})
                for (const bool is_packed : {false, true}) {
                    embedding_case<float, float>(setup, size, count, is_packed, scale, random);
                    embedding_case<float, bf16>(setup, size, count, is_packed, scale, random);
                    embedding_case<bf16, bf16>(setup, size, count, is_packed, scale, random);
                }
    embedding_case<float, f16>(setup, 35, 5, false, 1.0f, random);
}

TEST(embedding_refuses_ids_outside_the_table) {
    const Guarded<float> table = setup.input(std::vector<float>(6, 1.0f));
    for (const int32_t bad : {-1, 3, INT32_MAX, INT32_MIN}) {
        const Guarded<int32_t> ids = setup.input(std::vector<int32_t>{0, 2, bad});
        Guarded<float> out = setup.room<float>(6);
        const int64_t wrong = setup.table.embedding(out.data(), table.data(), false, 3, 2, ids.data(), 3, 1.0f, kF32, kFormatF32);
        CHECK(wrong == 2, words("the wrong id is said to be at", wrong));
        CHECK(std::isnan(out[0]), "something was written");
    }
}

}  // namespace
}  // namespace kvik::test
