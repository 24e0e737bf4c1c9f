// paged_attention against the textbook. The cache is NaN wherever no token lies, and a block table holds a number that
// no block has wherever no block is due.
#include <algorithm>

#include "ops.h"

namespace kvik::test {
namespace {

COVERS(paged_attention);

struct Request {
    int64_t queries, length;
};

struct Shape {
    std::vector<Request> requests;
    int64_t kv_heads, group, dim, block, window;
};

std::string text(const Shape& s, size_t bytes) {
    std::string requests;
    for (const Request& r : s.requests) requests += std::to_string(r.queries) + "/" + std::to_string(r.length) + " ";
    return "queries/keys " + requests + words("key heads", s.kv_heads, "group", s.group, "dim", s.dim, "block", s.block,
                                              "window", s.window, "cache bytes", bytes);
}

std::vector<Shape> shapes() {
    std::vector<Shape> all;
    for (const int64_t n : tail_sizes()) {
        all.push_back({{{n, n}}, 1, 1 + n % 4, 16, 16, n % 3 == 0 ? 5 : 0});                // prefill
        all.push_back({{{1, n}, {1, 66 - n}}, 2, 1 + n % 3, 32, n % 2 ? 32 : 16, 0});      // decode
        all.push_back({{{std::min<int64_t>(n, 7), n + 9}}, 1, 3, 48, 16, n % 2 ? 16 : 0});  // a later chunk
    }
    for (const int64_t dim : {16, 32, 48, 64, 80, 96, 112, 128, 256}) all.push_back({{{3, 21}}, 1, 2, dim, 16, 0});
    for (const int64_t group : {1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 32, 33, 40}) all.push_back({{{2, 19}}, 1, group, 16, 32, 0});
    for (const int64_t window : {1, 2, 15, 16, 17, 32, 33, 64}) all.push_back({{{1, 64}, {9, 40}}, 1, 2, 16, 16, window});
    std::vector<Request> many;
    for (int64_t i = 0; i < 33; ++i) many.push_back({i % 5 == 0 ? 3 : 1, 3 + i * 2});
    all.push_back({many, 1, 3, 32, 16, 0});
    // Partitions of 512 keys: at their edges, split among threads, and with a window that begins in the middle of one.
    for (const int64_t length : {511, 512, 513, 1030}) all.push_back({{{1, length}}, 2, 3, 64, 32, 0});
    all.push_back({{{20, 1100}, {1, 5}}, 1, 4, 32, 16, 0});
    all.push_back({{{20, 1100}}, 1, 2, 32, 16, 540});
    all.push_back({{{150, 150}}, 1, 2, 64, 16, 0});
    return all;
}

template <class T>
struct Problem {
    Shape s;
    int64_t max_blocks = 0, num_blocks = 1, num_queries = 0;
    std::vector<float> q;
    std::vector<T> k, v;
    std::vector<int32_t> tables, starts{0}, lengths;

    Problem(const Shape& shape, Random& random) : s(shape) {
        for (const Request& r : s.requests) {
            max_blocks = std::max(max_blocks, blocks_of(r) + 1);
            num_blocks += blocks_of(r);
            num_queries += r.queries;
            starts.push_back(static_cast<int32_t>(num_queries));
            lengths.push_back(static_cast<int32_t>(r.length));
        }
        q = random_elements(num_queries * s.kv_heads * s.group * s.dim, random, 2.0f);
        fill_tables(random);
        fill_cache(random);
    }

    int64_t blocks_of(const Request& r) const { return (r.length + s.block - 1) / s.block; }

    // Block ids in random order; the last block of the cache belongs to a request, so reading on behind it is a fault.
    void fill_tables(Random& random) {
        std::vector<int32_t> ids;
        for (int64_t i = 1; i < num_blocks; ++i) ids.push_back(static_cast<int32_t>(i));
        for (size_t i = ids.size() - 1; i > 0; --i) std::swap(ids[i], ids[random.below(static_cast<int64_t>(i) + 1)]);
        tables.assign(s.requests.size() * max_blocks, 1 << 30);
        for (size_t r = 0; r < s.requests.size(); ++r)
            for (int64_t b = 0; b < blocks_of(s.requests[r]); ++b) {
                tables[r * max_blocks + b] = ids.back();
                ids.pop_back();
            }
    }

    void fill_cache(Random& random) {
        T nan;
        std::memset(static_cast<void*>(&nan), 0xff, sizeof nan);
        k.assign(num_blocks * s.kv_heads * key_rows() * s.block, nan);
        v.assign(num_blocks * s.kv_heads * s.dim * s.block, nan);
        for (size_t r = 0; r < s.requests.size(); ++r)
            for (int64_t key = 0; key < s.requests[r].length; ++key)
                for (int64_t head = 0; head < s.kv_heads; ++head) {
                    for (int which = 0; which < 2 && kIsInt8<T>; ++which) {
                        const float size = random.between(0.5f, 1) / 127;
                        std::memcpy(static_cast<void*>(&k[scale_place(r, key, head, which)]), &size, sizeof size);
                    }
                    for (int64_t d = 0; d < s.dim; ++d) {
                        k[k_place(r, key, head, d)] = element<T>(random.between(-1, 1));
                        v[v_place(r, key, head, d)] = element<T>(random.between(-1, 1));
                    }
                }
    }

    int64_t block_of(size_t r, int64_t key, int64_t head) const {
        return tables[r * max_blocks + key / s.block] * s.kv_heads + head;
    }
    int64_t k_place(size_t r, int64_t key, int64_t head, int64_t d) const {
        return (block_of(r, key, head) * key_rows() + d) * s.block + key % s.block;
    }
    int64_t v_place(size_t r, int64_t key, int64_t head, int64_t d) const {
        return (block_of(r, key, head) * s.block + key % s.block) * s.dim + d;
    }
    // An int8 cache: 8 rows of bytes behind a block's keys hold the scales of its keys, then those of its values.
    int64_t key_rows() const { return s.dim + (kIsInt8<T> ? 8 : 0); }
    int64_t scale_place(size_t r, int64_t key, int64_t head, int which) const {
        return (block_of(r, key, head) * key_rows() + s.dim) * s.block + (which * s.block + key % s.block) * 4;
    }
    double scale_at(size_t r, int64_t key, int64_t head, int which) const {
        float size = 1;
        if constexpr (kIsInt8<T>) std::memcpy(&size, &k[scale_place(r, key, head, which)], sizeof size);
        return size;
    }

    float scale() const { return 1.0f / std::sqrt(static_cast<float>(s.dim)); }
};

template <class T>
std::vector<float> run(const Setup& setup, const Problem<T>& p) {
    const Shape& s = p.s;
    const auto q = setup.input(p.q);
    const auto k = setup.input(p.k), v = setup.input(p.v);
    const auto tables = setup.input(p.tables), starts = setup.input(p.starts), lengths = setup.input(p.lengths);
    auto out = setup.room<float>(static_cast<int64_t>(p.q.size()));
    setup.table.paged_attention(out.data(), q.data(), k.data(), v.data(), tables.data(), starts.data(), lengths.data(),
                                lengths.size(), p.max_blocks, s.kv_heads, s.group, s.dim, s.block, p.scale(), s.window,
                                kCode<T>);
    return out.copy();
}

// The output of one query of one head, that sees keys [first, end).
template <class T>
std::vector<double> attend(const Problem<T>& p, size_t r, const float* q, int64_t head, int64_t first, int64_t end) {
    std::vector<double> scores, out(p.s.dim, 0.0);
    double total = 0, best = -HUGE_VAL;
    for (int64_t key = first; key < end; ++key) {
        double score = 0;
        for (int64_t d = 0; d < p.s.dim; ++d) score += q[d] * value_of(p.k[p.k_place(r, key, head, d)]);
        scores.push_back(score * p.scale() * p.scale_at(r, key, head, 0));
        best = std::max(best, scores.back());
    }
    for (int64_t key = first; key < end; ++key) {
        const double weight = std::exp(scores[key - first] - best), scaled = weight * p.scale_at(r, key, head, 1);
        total += weight;
        for (int64_t d = 0; d < p.s.dim; ++d) out[d] += scaled * value_of(p.v[p.v_place(r, key, head, d)]);
    }
    for (double& a : out) a /= total;
    return out;
}

template <class T>
void check_attention(const Problem<T>& p, const std::vector<float>& out) {
    const Shape& s = p.s;
    for (size_t r = 0; r < s.requests.size(); ++r)
        for (int64_t i = 0; i < s.requests[r].queries; ++i)
            for (int64_t head = 0; head < s.kv_heads * s.group; ++head) {
                const int64_t place = ((p.starts[r] + i) * s.kv_heads * s.group + head) * s.dim;
                const int64_t end = s.requests[r].length - s.requests[r].queries + i + 1;
                const int64_t first = s.window ? std::max<int64_t>(0, end - s.window) : 0;
                const auto expected = attend(p, r, &p.q[place], head / s.group, first, end);
                for (int64_t d = 0; d < s.dim; ++d) CHECK_NEAR(out[place + d], expected[d], 2e-6, place + d);
            }
}

template <class T>
void attention_case(const Setup& setup, const Shape& s, Random& random) {
    at(text(s, sizeof(T)));
    const Problem<T> p(s, random);
    check_attention(p, run(setup, p));
}

TEST(attention_is_that_of_the_keys_seen) {
    Random random(41);
    for (const Shape& s : shapes()) {
        attention_case<float>(setup, s, random);
        attention_case<f16>(setup, s, random);
        attention_case<bf16>(setup, s, random);
        attention_case<int8_t>(setup, s, random);
    }
}

TEST(attention_of_no_request_writes_nothing) {
    Random random(42);
    run(setup, Problem<float>({{{1, 1}}, 1, 1, 16, 16, 0}, random));
    setup.table.paged_attention(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 1, 1, 1, 16, 16, 1.0f,
                                0, kF32);
}

// A key that is no number spoils the queries that see it and no other; a value, in its own column, also earlier queries
// of the same request that share a tile with such, for 0 times infinity is no number. No other request is touched.
TEST(attention_keeps_nan_to_its_request) {
    Random random(43);
    const Shape s = {{{5, 40}, {4, 20}}, 1, 2, 16, 16, 8};
    Problem<float> p(s, random);
    p.k[p.k_place(0, 37, 0, 3)] = kNan;
    p.v[p.v_place(1, 18, 0, 0)] = kInf;
    const auto out = run(setup, p);
    for (int64_t query = 0; query < 9; ++query)
        for (int64_t i = 0; i < 2 * 16; ++i) {
            const bool sees_nan = query >= 2 && query < 5, sees_inf = query >= 7 && i % 16 == 0;
            const bool shares_inf = query >= 5 && i % 16 == 0, finite = std::isfinite(out[query * 32 + i]);
            CHECK(finite ? !sees_nan && !sees_inf : sees_nan || shares_inf, words("query", query, "element", i));
        }
}

TEST(attention_does_not_depend_on_threads) {
    if (setup.num_threads != 1) return;  // it sets the number of threads itself
    Random random(44);
    std::vector<Request> requests = {{1, 1100}, {40, 600}, {1, 3}};
    const Problem<f16> p({requests, 2, 3, 64, 32, 0}, random);
    const auto alone = run(setup, p);
    for (const int threads : {2, 3, 5}) {
        set_num_threads(threads);
        at(words("threads", threads));
        CHECK(same_bits(run(setup, p), alone), "bits depend on the number of threads");
    }
    set_num_threads(setup.num_threads);
}

}  // namespace
}  // namespace kvik::test
