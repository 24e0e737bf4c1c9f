// Register tiles of the quantised linear: as many rows of x and panels of the weight as registers hold sums for. Knows
// neither threads nor caches.
#pragma once

#include "linear_blocks_input.h"

namespace kvik::KVIK_ISA {

constexpr int64_t kLineBytes = 64;                                // of a cache line
constexpr int kTallestTile = kWideRows ? kWideRows : kMaxDotRows;  // rows, of several tiles

// May lie behind the end of what is there.
KVIK_INLINE void prefetch(const uint8_t* p) { __builtin_prefetch(p); }

struct BlockArgs : ProductArgs {
    int64_t panel_bytes = 0;  // of the weight, from one to the next

    int64_t groups() const { return k / kGroup; }
    int64_t tiles() const { return m <= kMaxDotRows ? 1 : (m + kTallestTile - 1) / kTallestTile; }
    int64_t first_row(int64_t tile) const { return m * tile / tiles(); }  // tiles of nearly equal height
};

// Step 2 kPair or 2 kPair + 1 of each panel; `inputs` are the first row's of that step, a group apart from row to row.
template <class W, int kRows, int kPanels>
KVIK_INLINE void add_step(I32 (&sums)[kRows][kPanels], const Bytes (&codes)[kPanels], const int8_t* inputs) {
    for (int r = 0; r < kRows; ++r) {
        const int8_t* input = inputs + r * static_cast<int>(sizeof(InputGroup<W>));
        if constexpr (kPanels == 1) {
            sums[r][0] = dot4_repeated<W::kMaxCode>(sums[r][0], codes[0], input);
        } else {
            const Bytes repeated = repeat4(input);
            for (int p = 0; p < kPanels; ++p) sums[r][p] = dot4<W::kMaxCode>(sums[r][p], codes[p], repeated);
        }
    }
}

template <class W, int kPair, int kRows, int kPanels>
KVIK_INLINE void add_pair(I32 (&sums)[kRows][kPanels], const uint8_t* const (&panels)[kPanels], int64_t group,
                          const InputGroup<W>* inputs) {
    Bytes first[kPanels], second[kPanels];
    for (int p = 0; p < kPanels; ++p) {
        const BytePair pair = W::template codes<kPair>(panels[p], group);
        first[p] = pair.first;
        second[p] = pair.second;
    }
    add_step<W>(sums, first, inputs->codes + 8 * kPair);
    add_step<W>(sums, second, inputs->codes + 8 * kPair + 4);
}

// The elements of a group that share a weight scale.
template <class W, int kPart, int kRows, int kPanels>
KVIK_INLINE void add_part(F32 (&acc)[kRows][kPanels], const uint8_t* const (&panels)[kPanels], int64_t group,
                          const InputGroup<W>* inputs) {
    I32 sums[kRows][kPanels];
    for (int r = 0; r < kRows; ++r) {
        I32 start = set1_i32(0);
        if constexpr (!W::kHasMinimum) start = set1_i32(inputs[r].rest[kPart]);
        for (int p = 0; p < kPanels; ++p) sums[r][p] = start;
    }
    if constexpr (W::kScalesPerGroup == 1) {
        add_pair<W, 0>(sums, panels, group, inputs);
        add_pair<W, 1>(sums, panels, group, inputs);
        add_pair<W, 2>(sums, panels, group, inputs);
        add_pair<W, 3>(sums, panels, group, inputs);
    } else {
        add_pair<W, 2 * kPart>(sums, panels, group, inputs);
        add_pair<W, 2 * kPart + 1>(sums, panels, group, inputs);
    }
    for (int r = 0; r < kRows; ++r)
        for (int p = 0; p < kPanels; ++p) {
            const I32 codes = W::code_at(panels[p], group, inputs[r].place);
            sums[r][p] = add_product(sums[r][p], codes, &inputs[r].outlier[kPart]);
        }
    for (int p = 0; p < kPanels; ++p) {
        const F32 scale = W::template scale<kPart>(panels[p], group);
        for (int r = 0; r < kRows; ++r)
            acc[r][p] = fma(to_float(sums[r][p]), scale * set1(inputs[r].scale), acc[r][p]);
    }
}

template <class W, int kRows, int kPanels>
KVIK_INLINE void add_group(F32 (&acc)[kRows][kPanels], const uint8_t* const (&panels)[kPanels], int64_t group,
                           const InputGroup<W>* inputs) {
    add_part<W, 0>(acc, panels, group, inputs);
    if constexpr (W::kScalesPerGroup == 2) add_part<W, 1>(acc, panels, group, inputs);
    if constexpr (W::kHasMinimum) {
        for (int p = 0; p < kPanels; ++p) {
            const F32 minimum = W::minimum(panels[p], group);
            for (int r = 0; r < kRows; ++r) acc[r][p] = fma(minimum, set1(inputs[r].rest[0]), acc[r][p]);
        }
    }
}

// Groups of a tile: some panels times some rows, added to what the output holds of the groups before.
template <class W>
struct BlockSpan {
    const BlockArgs& args;
    int64_t row, panel;            // the first of the output
    const InputGroup<W>* inputs;   // of the first group
    const uint8_t* weight;         // the first panel as it is read,
    int64_t panel_bytes;           // bytes to the next,
    int64_t first_group, groups;   // and which of its groups
    bool is_first, is_last;        // whether the chains begin and end with these
    const uint8_t* ahead;          // what to fetch of args.weight meanwhile, the same of each panel: from here on
    int64_t ahead_bytes;           // so many bytes with each group
};

template <class W, int kRows, int kPanels>
static void block_tile(const BlockSpan<W>& span) {
    const BlockArgs& args = span.args;
    const int64_t column = span.panel * kPanelRows;
    float* out = args.out + span.row * args.out_stride + column;
    F32 acc[kRows][kPanels];
    const uint8_t* panels[kPanels];
    int64_t lanes[kPanels];
    for (int p = 0; p < kPanels; ++p) {
        const int64_t left = args.n - column - p * kPanelRows;
        lanes[p] = left < kPanelRows ? left : kPanelRows;
        panels[p] = span.weight + p * span.panel_bytes;
        for (int r = 0; r < kRows; ++r)
            acc[r][p] = span.is_first ? zero() : load_part(out + r * args.out_stride + p * kPanelRows, lanes[p]);
    }
    const uint8_t* ahead = span.ahead;
    for (int64_t group = 0; group < span.groups; ++group, ahead += span.ahead_bytes) {
        for (int64_t at = 0; at < span.ahead_bytes; at += kLineBytes)
            for (int p = 0; p < kPanels; ++p) prefetch(ahead + p * args.panel_bytes + at);
        add_group<W>(acc, panels, span.first_group + group, span.inputs + group * kRows);
    }
    for (int p = 0; p < kPanels; ++p)
        for (int r = 0; r < kRows; ++r) {
            F32 sum = acc[r][p];
            if (args.bias && span.is_last) sum = sum + load_part(args.bias + column + p * kPanelRows, lanes[p]);
            store_part(out + r * args.out_stride + p * kPanelRows, sum, lanes[p]);
        }
}

// The instance for a number of rows known at run time only. Several tiles are never lower than half the tallest.
template <class W, int kPanels = 1, int kRows = kPanels == 1 ? kMaxDotRows : kWideRows>
static void run_block_tile(const BlockSpan<W>& span, int64_t rows) {
    if constexpr (kRows > (kPanels == 1 ? 1 : kWideRows / 2)) {
        if (rows < kRows) return run_block_tile<W, kPanels, kRows - 1>(span, rows);
    }
    block_tile<W, kRows, kPanels>(span);
}

}  // namespace kvik::KVIK_ISA
