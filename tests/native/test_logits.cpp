// Ops on rows of logits: mask_tokens, sample, kept_tokens, arg_max, top_logprobs and token_logprobs.
#include <algorithm>
#include <numeric>

#include "ops.h"

namespace kvik::test {
namespace {

COVERS(mask_tokens);
COVERS(sample);
COVERS(kept_tokens);
COVERS(arg_max);
COVERS(top_logprobs);
COVERS(token_logprobs);

std::vector<int64_t> vocabularies() {
    std::vector<int64_t> sizes = tail_sizes();
    for (const int64_t size : {1023, 1024, 1025, 2077}) sizes.push_back(size);
    return sizes;
}

// Logits with ties and some -inf: what a sound row may hold.
std::vector<float> row_of_logits(int64_t size, Random& random) {
    std::vector<float> row;
    for (int64_t i = 0; i < size; ++i)
        row.push_back(random.below(9) == 0 ? -kInf : std::round(random.between(-12, 12) * 8) / 8);
    row[random.below(size)] = 12;
    return row;
}

// Token ids, best first; of equal ones the lower first.
std::vector<int64_t> best_first(const float* row, int64_t size) {
    std::vector<int64_t> ids(size);
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(ids.begin(), ids.end(), [row](int64_t a, int64_t b) { return row[a] > row[b]; });
    return ids;
}

// --- masks --------------------------------------------------------------------------------------------------

// Words of all kinds: all, none, some.
std::vector<uint32_t> words_of_mask(int64_t num_words, Random& random) {
    std::vector<uint32_t> mask;
    for (int64_t w = 0; w < num_words; ++w) {
        const int64_t kind = random.below(4);
        mask.push_back(kind == 0 ? ~0u : kind == 1 ? 0u : static_cast<uint32_t>(random.below(int64_t{1} << 32)));
    }
    return mask;
}

TEST(masks_rule_out_what_they_do_not_allow) {
    Random random(50);
    for (const int64_t size : vocabularies()) {
        at(words("size", size));
        const int64_t num_words = size / 32 + 1, rows = 3;
        std::vector<float> before;
        for (int64_t r = 0; r < rows; ++r)
            for (const float x : row_of_logits(size, random)) before.push_back(x);
        auto logits = setup.room<float>(rows * size);
        std::copy(before.begin(), before.end(), logits.data());
        const auto masks = setup.input(words_of_mask(2 * num_words, random));
        const auto where = setup.input(std::vector<int32_t>{2, 0});
        setup.table.mask_tokens(logits.data(), size, where.data(), 2, masks.data(), num_words);
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < size; ++i) {
                const int64_t mask = r == 2 ? 0 : r == 0 ? 1 : -1;
                const bool allowed = mask < 0 || masks[mask * num_words + i / 32] >> i % 32 & 1;
                CHECK(logits[r * size + i] == (allowed ? before[r * size + i] : -kInf), words("row", r, "id", i));
            }
    }
}

// --- log probabilities ------------------------------------------------------------------------------------

// The logarithm of the sum of exp(row).
double log_sum_exp(const float* row, int64_t size) {
    double sum = 0;
    const double best = *std::max_element(row, row + size);
    for (int64_t i = 0; i < size; ++i) sum += std::exp(row[i] - best);
    return best + std::log(sum);
}

// `norm`: log_sum_exp of the row, or 0 where the logit itself is told.
void check_logprob(float got, const float* row, int64_t id, double norm) {
    const double expected = row[id] - norm;
    CHECK_NEAR(got, expected, std::fabs(expected) * 2e-7 + 2e-6, id);
}

void logprobs_case(const Setup& setup, int64_t rows, int64_t size, int64_t k, bool normalize, Random& random) {
    at(words("rows", rows, "size", size, "k", k, "normalize", normalize));
    std::vector<float> all;
    std::vector<int64_t> chosen;
    for (int64_t r = 0; r < rows; ++r) {
        const auto row = row_of_logits(size, random);
        all.insert(all.end(), row.begin(), row.end());
        chosen.push_back(r == 0 ? size - 1 : random.below(size));
    }
    const auto logits = setup.input(all);
    const auto guarded_chosen = setup.input(chosen);
    auto ids = setup.room<int64_t>(rows * (k + 1)), ranks = setup.room<int64_t>(rows * (k + 1));
    auto values = setup.room<float>(rows * (k + 1)), given_values = setup.room<float>(rows);
    auto given_ranks = setup.room<int64_t>(rows);
    setup.table.top_logprobs(ids.data(), values.data(), ranks.data(), logits.data(), guarded_chosen.data(), rows, size, k,
                             normalize);
    setup.table.token_logprobs(given_values.data(), given_ranks.data(), logits.data(), guarded_chosen.data(), rows, size,
                               1, normalize);
    for (int64_t r = 0; r < rows; ++r) {
        const float* row = &all[r * size];
        const double norm = normalize ? log_sum_exp(row, size) : 0.0;
        const auto order = best_first(row, size);
        const int64_t rank = std::find(order.begin(), order.end(), chosen[r]) - order.begin() + 1;
        CHECK(ids[r * (k + 1)] == chosen[r] && ranks[r * (k + 1)] == rank, words("rank of the chosen in row", r));
        CHECK(given_ranks[r] == rank, words("rank of the given in row", r));
        check_logprob(given_values[r], row, chosen[r], norm);
        check_logprob(values[r * (k + 1)], row, chosen[r], norm);
        for (int64_t i = 0; i < k; ++i) {
            const int64_t at = r * (k + 1) + 1 + i;
            CHECK(ids[at] == order[i] && ranks[at] == i + 1, words("row", r, "place", i, "id", ids[at]));
            check_logprob(values[at], row, order[i], norm);
        }
    }
}

TEST(logprobs_are_log_softmax) {
    Random random(51);
    for (const int64_t size : vocabularies())
        for (const int64_t k : {int64_t{0}, std::min<int64_t>(size, 5), size / 2, size})
            logprobs_case(setup, 1 + size % 3, size, k, k % 2 == 0, random);
    logprobs_case(setup, 5, 9001, 20, true, random);
}

// --- choosing tokens ----------------------------------------------------------------------------------------

struct Choice {
    float temperature, top_p, min_p;
    int32_t top_k;
};

std::string text(const Choice& c, int64_t size) {
    return words("size", size, "top k", c.top_k) + ", temperature " + std::to_string(c.temperature) + ", top p " +
           std::to_string(c.top_p) + ", min p " + std::to_string(c.min_p);
}

// Weights exp(z) after the filters; whole weights decide at the bounds of top-p, so what lies within a hair of that
// bound is marked as open.
struct Reference {
    std::vector<double> weights;
    std::vector<bool> kept, open;
};

Reference reference(const std::vector<float>& row, const Choice& c) {
    const int64_t size = static_cast<int64_t>(row.size());
    const auto order = best_first(row.data(), size);
    Reference found = {std::vector<double>(size), std::vector<bool>(size), std::vector<bool>(size)};
    double total = 0, before = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < size; ++i) {
        const double z = (static_cast<double>(row[order[i]]) - row[order[0]]) / c.temperature;
        const bool in = std::exp(z) * 0x1p40 >= 1 && std::exp(z) >= c.min_p && (c.top_k <= 0 || i < c.top_k);
        if (!in) break;
        found.weights[order[i]] = std::exp(z);
        total += std::exp(z);
        count = i + 1;
    }
    for (int64_t i = 0; i < count; ++i) {
        const double bound = static_cast<double>(c.top_p) * total;
        found.kept[order[i]] = c.top_p >= 1 || before < bound;
        found.open[order[i]] = c.top_p < 1 && std::fabs(before - bound) < 1e-5 * total;
        before += found.weights[order[i]];
    }
    return found;
}

// Philox4x32-10, after the paper: the number in [0, 1) that decides.
double uniform(uint64_t seed, uint64_t position) {
    uint32_t c[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0};
    uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = 0xd2511f53ull * c[0], product1 = 0xcd9e8d57ull * c[2];
        const uint32_t next[4] = {static_cast<uint32_t>(product1 >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(product1),
                                  static_cast<uint32_t>(product0 >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(product0)};
        std::copy(next, next + 4, c);
        key[0] += 0x9e3779b9u;
        key[1] += 0xbb67ae85u;
    }
    return std::ldexp(c[1], -32) + std::ldexp(c[0], -64);
}

void check_kept(const Reference& expected, const uint8_t* kept) {
    for (size_t i = 0; i < expected.kept.size(); ++i)
        CHECK(expected.open[i] || kept[i] == expected.kept[i], words("kept token", static_cast<long long>(i)));
}

// The token lies where the random number falls among the weights that are kept.
void check_drawn(const Reference& expected, const uint8_t* kept, int64_t token, double u) {
    const int64_t size = static_cast<int64_t>(expected.kept.size());
    CHECK(token >= 0 && token < size && kept[token], words("drew token", token));
    double total = 0, before = 0;
    for (int64_t i = 0; i < size; ++i) total += kept[i] ? expected.weights[i] : 0;
    for (int64_t i = 0; i < token; ++i) before += kept[i] ? expected.weights[i] : 0;
    const double end = before + expected.weights[token], slack = 1e-5 * total;
    CHECK(before - slack <= u * total && u * total <= end + slack, words("drew token", token));
}

void sample_case(const Setup& setup, int64_t rows, int64_t size, const Choice& c, Random& random) {
    at(words("rows", rows) + ", " + text(c, size));
    std::vector<std::vector<float>> all;
    std::vector<float> flat;
    for (int64_t r = 0; r < rows; ++r) {
        all.push_back(row_of_logits(size, random));
        flat.insert(flat.end(), all.back().begin(), all.back().end());
    }
    std::vector<int64_t> seeds, positions;
    for (int64_t r = 0; r < rows; ++r) {
        seeds.push_back(static_cast<int64_t>(random.word()));
        positions.push_back(random.below(100000));
    }
    const auto logits = setup.input(flat), temperature = setup.input(std::vector<float>(rows, c.temperature));
    const auto top_p = setup.input(std::vector<float>(rows, c.top_p)), min_p = setup.input(std::vector<float>(rows, c.min_p));
    const auto top_k = setup.input(std::vector<int32_t>(rows, c.top_k));
    const auto guarded_seeds = setup.input(seeds), guarded_positions = setup.input(positions);
    auto out = setup.room<int64_t>(rows);
    auto kept = setup.room<uint8_t>(rows * size);
    setup.table.sample(out.data(), logits.data(), rows, size, temperature.data(), top_k.data(), top_p.data(), min_p.data(),
                       guarded_seeds.data(), guarded_positions.data());
    setup.table.kept_tokens(kept.data(), logits.data(), rows, size, temperature.data(), top_k.data(), top_p.data(),
                            min_p.data());
    for (int64_t r = 0; r < rows; ++r) {
        const Reference expected = reference(all[r], c);
        check_kept(expected, &kept[r * size]);
        check_drawn(expected, &kept[r * size], out[r], uniform(seeds[r], positions[r]));
    }
}

TEST(sample_draws_among_the_kept) {
    Random random(52);
    const Choice choices[] = {{1.0f, 1.0f, 0.0f, 0},  {0.7f, 0.9f, 0.0f, 0},   {1.5f, 1.0f, 0.0f, 4},
                              {0.5f, 0.8f, 0.02f, 7}, {2.0f, 0.95f, 0.0f, 200}, {1.0f, 1.0f, 0.1f, 0},
                              {0.01f, 0.5f, 0.0f, 0}, {100.0f, 0.3f, 0.0f, 1}};
    for (const int64_t size : vocabularies())
        for (const Choice& c : choices) sample_case(setup, 1 + size % 3, size, c, random);
    sample_case(setup, 5, 9001, choices[1], random);
}

TEST(arg_max_is_the_first_of_the_best) {
    Random random(53);
    for (const int64_t size : vocabularies()) {
        at(words("size", size));
        const auto row = row_of_logits(size, random);
        std::vector<float> rows;
        for (int r = 0; r < 3; ++r) rows.insert(rows.end(), row.begin(), row.end());
        const auto logits = setup.input(rows);
        auto out = setup.room<int64_t>(3);
        setup.table.arg_max(out.data(), logits.data(), 3, size);
        for (int r = 0; r < 3; ++r) CHECK(out[r] == best_first(row.data(), size)[0], words("token", out[r]));
    }
}

// NaN, +inf or nothing but -inf anywhere in a row: -1, and no token is kept.
TEST(unsound_rows_give_no_token) {
    for (const int64_t size : vocabularies())
        for (const float flaw : {kNan, kInf, -kInf})
            for (const int64_t place : {int64_t{0}, size / 2, size - 1}) {
                at(words("size", size, "place", place));
                std::vector<float> row(size, flaw == -kInf ? -kInf : 1.0f);
                row[place] = flaw;
                const auto logits = setup.input(row), one = setup.input(std::vector<float>{1.0f});
                const auto half = setup.input(std::vector<float>{0.5f}), nil = setup.input(std::vector<float>{0.0f});
                const auto top_k = setup.input(std::vector<int32_t>{0});
                const auto word = setup.input(std::vector<int64_t>{7});
                auto out = setup.room<int64_t>(1);
                auto kept = setup.room<uint8_t>(size);
                setup.table.arg_max(out.data(), logits.data(), 1, size);
                CHECK(out[0] == -1, words("arg max", out[0]));
                setup.table.sample(out.data(), logits.data(), 1, size, one.data(), top_k.data(), half.data(), nil.data(),
                                   word.data(), word.data());
                CHECK(out[0] == -1, words("sampled", out[0]));
                setup.table.kept_tokens(kept.data(), logits.data(), 1, size, one.data(), top_k.data(), half.data(),
                                        nil.data());
                for (int64_t i = 0; i < size; ++i) CHECK(kept[i] == 0, words("kept", i));
            }
}

// Log probabilities of such rows may be anything, but are found without reading elsewhere.
TEST(logprobs_take_unsound_rows) {
    for (const float flaw : {kNan, kInf, -kInf})
        for (const int64_t k : {3, 150}) {
            at(words("k", k));
            std::vector<float> row(200, flaw);
            row[100] = 1;
            const auto logits = setup.input(row);
            const auto chosen = setup.input(std::vector<int64_t>{199});
            auto ids = setup.room<int64_t>(k + 1), ranks = setup.room<int64_t>(k + 1);
            auto values = setup.room<float>(k + 1);
            setup.table.top_logprobs(ids.data(), values.data(), ranks.data(), logits.data(), chosen.data(), 1, 200, k, true);
            for (int64_t i = 0; i <= k; ++i) CHECK(ids[i] >= 0 && ids[i] < 200, words("id", ids[i]));
        }
}

}  // namespace
}  // namespace kvik::test
