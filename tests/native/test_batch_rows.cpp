#include <algorithm>

#include "ops.h"

namespace kvik::test {
namespace {

COVERS(batch_rows);

struct Request {
    int32_t table_row, first, count, num_logits;
};

constexpr int64_t kTableRows = 7, kMaxTokens = 70;

struct Problem {
    std::vector<Request> requests;
    int64_t block;
    std::vector<int32_t> tokens, blocks;  // the tables, [7, 70] and [7, blocks of 70 tokens]

    int64_t table_width() const { return (kMaxTokens + block - 1) / block; }
    int64_t num_tokens() const {
        int64_t sum = 0;
        for (const Request& r : requests) sum += r.count;
        return sum;
    }
    int64_t num_logits() const {
        int64_t sum = 0;
        for (const Request& r : requests) sum += r.num_logits;
        return sum;
    }
    int64_t width() const {
        int64_t longest = 0;
        for (const Request& r : requests) longest = std::max<int64_t>(longest, r.first + r.count);
        return (longest + block - 1) / block;
    }
};

Problem make_problem(int64_t num_requests, int64_t block, Random& random) {
    Problem p{{}, block, {}, {}};
    for (int64_t i = 0; i < kTableRows * kMaxTokens; ++i) p.tokens.push_back(static_cast<int32_t>(random.below(50000)));
    for (int64_t i = 0; i < kTableRows * p.table_width(); ++i)
        p.blocks.push_back(static_cast<int32_t>(random.below(1000)));
    for (int64_t b = 0; b < num_requests; ++b) {
        const auto first = static_cast<int32_t>(random.below(kMaxTokens));
        const auto count = static_cast<int32_t>(1 + random.below(kMaxTokens - first));
        // The last row of the tables as well, where a step too far would leave the buffer.
        const auto row = static_cast<int32_t>(b == 0 ? kTableRows - 1 : random.below(kTableRows));
        p.requests.push_back({row, b == 0 ? 0 : first, b == 0 ? static_cast<int32_t>(kMaxTokens) : count,
                              static_cast<int32_t>(random.below(count + 1))});
    }
    return p;
}

void batch_case(const Setup& setup, const Problem& p) {
    at(words("requests", static_cast<long long>(p.requests.size()), "block", p.block));
    std::vector<int32_t> packed;
    for (const Request& r : p.requests) packed.insert(packed.end(), {r.table_row, r.first, r.count, r.num_logits});
    const auto num_requests = static_cast<int64_t>(p.requests.size()), width = p.width();
    const auto requests = setup.input(packed), tokens = setup.input(p.tokens), blocks = setup.input(p.blocks);
    auto ids = setup.room<int32_t>(p.num_tokens()), positions = setup.room<int32_t>(p.num_tokens());
    auto slots = setup.room<int32_t>(p.num_tokens()), starts = setup.room<int32_t>(num_requests + 1);
    auto lengths = setup.room<int32_t>(num_requests), tables = setup.room<int32_t>(num_requests * width);
    auto logits = setup.room<int32_t>(p.num_logits());
    setup.table.batch_rows(requests.data(), num_requests, width, p.block, tokens.data(), kMaxTokens, blocks.data(),
                           p.table_width(), ids.data(), positions.data(), slots.data(), starts.data(), lengths.data(),
                           tables.data(), logits.data());
    int64_t row = 0, logit = 0;
    CHECK(starts.copy()[0] == 0, "the first request starts at 0");
    for (int64_t b = 0; b < num_requests; ++b) {
        const Request& r = p.requests[b];
        for (int32_t i = 0; i < r.count; ++i, ++row) {
            const int32_t position = r.first + i, block = p.blocks[r.table_row * p.table_width() + position / p.block];
            CHECK(ids.copy()[row] == p.tokens[r.table_row * kMaxTokens + position], words("token of row", row));
            CHECK(positions.copy()[row] == position, words("position of row", row));
            CHECK(slots.copy()[row] == block * p.block + position % p.block, words("slot of row", row));
        }
        CHECK(starts.copy()[b + 1] == row && lengths.copy()[b] == r.first + r.count, words("request", b));
        for (int64_t i = 0; i < width; ++i)
            CHECK(tables.copy()[b * width + i] == p.blocks[r.table_row * p.table_width() + i], words("request", b));
        for (int64_t i = row - r.num_logits; i < row; ++i, ++logit)
            CHECK(logits.copy()[logit] == i, words("logits row", logit));
    }
}

TEST(batch_rows_copies_the_tables) {
    Random random(41);
    for (const int64_t block : {16, 32})
        for (const int64_t num_requests : {1, 2, 3, 17}) batch_case(setup, make_problem(num_requests, block, random));
}

}  // namespace
}  // namespace kvik::test
