// x [M, K] fp32 times a packed weight of a quantised format. Knows the formats only through packed_blocks.h.
//
// Each row of x is rounded first, by itself (linear_blocks_input.h). Products and sums within a group of 32 (q6_k: half
// of one) are whole numbers below 2^24, so exact on every machine. An output element is one chain of fp32 multiply-adds
// over the groups in ascending order, started from zero: whatever the number of rows, the tile or the thread, its bits
// are the same. Blocking over K keeps the chain's unfinished value in the output itself.
//
// Up to kMaxDotRows rows are one tile of one panel, and the weight streams by once. More are cut into tiles of up to
// kWideRows rows by two panels, where the machine has the registers: fewer loads. They pass one after another over a
// block of two panels that stays in the first-level cache.
//
// The hardware fetches ahead within a page only, and stops where a block ends. So the weight is asked for well before
// its use: 12 KiB ahead where it streams by, else the next block while the tiles pass over this one.
#pragma once

#include "../expanded_blocks.h"
#include "linear_blocks_tile.h"

namespace kvik::KVIK_ISA {

constexpr int64_t kCachedRows = 192;               // rows that pass over a share's panels together
constexpr int64_t kCachedGroups = 64;              // groups of them at a time, where they are
constexpr int64_t kCachedInputBytes = 384 * 1024;  // more than this, a part of the second-level cache
constexpr int64_t kWeightGroups = 32;              // groups of two panels that stay while all tiles pass
constexpr int64_t kAheadBytes = 12288;             // how far before its use a weight that streams by is fetched

// Bytes of a panel from a group to the next, where they lie evenly.
template <class Q>
constexpr int64_t kGroupBytes = Q::panel_bytes(8) / 8;

// A weight's panels and tiles of rows that one thread multiplies.
struct Share {
    int64_t begin_tile, end_tile, begin_panel, end_panel;

    int64_t tiles() const { return end_tile - begin_tile; }
};

// Inputs lie tile by tile; in a tile as it reads them: [groups, rows].
template <class W>
static void quantize_tiles(InputGroup<W>* inputs, const BlockArgs& args, int64_t begin_tile, int64_t end_tile) {
    const int64_t groups = args.groups();
    for (int64_t tile = begin_tile; tile < end_tile; ++tile) {
        const int64_t first = args.first_row(tile), rows = args.first_row(tile + 1) - first;
        InputGroup<W>* out = inputs + first * groups;
        const float* x = args.x + first * args.k;
        for (int64_t row = 0; row < rows; ++row) quantize_row<W>(out + row, rows, x + row * args.k, groups);
    }
}

// The only tile of few rows: the weight streams by.
template <class W>
static void run_stream(const BlockArgs& args, const InputGroup<W>* inputs, int64_t begin_panel, int64_t end_panel) {
    for (int64_t panel = begin_panel; panel < end_panel; ++panel) {
        const uint8_t* weight = args.weight + panel * args.panel_bytes;
        const BlockSpan<W> span = {args, 0, panel, inputs, weight, args.panel_bytes, 0, args.groups(), true, true,
                                   weight + kAheadBytes, kGroupBytes<W>};
        run_block_tile<W>(span, args.m);
    }
}

// Groups [from, to) of `panels` panels by all tiles of a share. Each fetches a part of `next`, the block after this.
template <class Q, class W>
static void run_tiles(const BlockArgs& args, const InputGroup<W>* inputs, const Share& share, int64_t panel,
                      int64_t panels, int64_t from, int64_t to, const uint8_t* next) {
    const int64_t groups = to - from, block_bytes = groups * kGroupBytes<Q>;
    const int64_t lines = (kGroupBytes<Q> + share.tiles() * kLineBytes - 1) / (share.tiles() * kLineBytes);
    const uint8_t* weight = args.weight + panel * args.panel_bytes;
    int64_t panel_bytes = args.panel_bytes, first_group = from, fetched = 0;
    constexpr bool kExpands = !std::is_same_v<Q, W>;
    [[maybe_unused]] alignas(64) uint8_t expanded[kExpands ? 2 * W::panel_bytes(kWeightGroups) : 1];
    if constexpr (kExpands) {
        for (int64_t p = 0; p < panels; ++p)
            W::expand(expanded + p * W::panel_bytes(groups), weight + p * panel_bytes, from, to);
        weight = expanded;
        panel_bytes = W::panel_bytes(groups);
        first_group = 0;
    }
    for (int64_t tile = share.begin_tile; tile < share.end_tile; ++tile) {
        const int64_t row = args.first_row(tile), rows = args.first_row(tile + 1) - row;
        const BlockSpan<W> span = {args, row, panel, inputs + row * args.groups() + from * rows, weight, panel_bytes,
                                   first_group, groups, from == 0, to == args.groups(), next + fetched,
                                   fetched < block_bytes ? lines * kLineBytes : 0};
        fetched += groups * lines * kLineBytes;
        if constexpr (kWideRows > 0) {
            if (panels == 2) {
                run_block_tile<W, 2>(span, rows);
                continue;
            }
        }
        run_block_tile<W>(span, rows);
    }
}

// Groups [begin_group, end_group) of a share, in blocks of nearly equal length.
template <class Q, class W>
static void run_groups(const BlockArgs& args, const InputGroup<W>* inputs, const Share& share, int64_t begin_group,
                       int64_t end_group) {
    const int64_t groups = end_group - begin_group, blocks = (groups + kWeightGroups - 1) / kWeightGroups;
    const auto first_group = [=](int64_t block) { return begin_group + groups * block / blocks; };
    for (int64_t panel = share.begin_panel; panel < share.end_panel;) {
        const int64_t panels = kWideRows && panel + 2 <= share.end_panel ? 2 : 1;
        for (int64_t block = 0; block < blocks; ++block) {
            const bool is_last = block + 1 == blocks;
            const int64_t next_panel = is_last ? panel + panels : panel;
            const int64_t next_group = first_group(is_last ? 0 : block + 1);
            run_tiles<Q>(args, inputs, share, panel, panels, first_group(block), first_group(block + 1),
                         args.weight + next_panel * args.panel_bytes + next_group * kGroupBytes<Q>);
        }
        panel += panels;
    }
}

// The tiles of a share pass together, over as many groups as leave their rows in the cache.
template <class Q, class W>
static void run_share(const BlockArgs& args, const InputGroup<W>* inputs, const Share& share) {
    const int64_t groups = args.groups(), rows = args.first_row(share.end_tile) - args.first_row(share.begin_tile);
    const bool cached = rows * groups * static_cast<int64_t>(sizeof(InputGroup<W>)) <= kCachedInputBytes;
    const int64_t step = cached ? groups : kCachedGroups;
    for (int64_t from = 0; from < groups; from += step)
        run_groups<Q>(args, inputs, share, from, from + step < groups ? from + step : groups);
}

// Each thread rounds the rows for itself, which is faster than to wait for each other.
template <class Q>
static void linear_few_rows(const BlockArgs& args) {
    const size_t input_bytes = static_cast<size_t>(args.m * args.groups()) * sizeof(InputGroup<Q>);
    parallel_for(num_panels(args.n), min_tasks(args.panel_bytes), [&](int64_t begin, int64_t end, int) {
        InputGroup<Q>* inputs = static_cast<InputGroup<Q>*>(thread_scratch(input_bytes));
        quantize_tiles<Q>(inputs, args, 0, 1);
        run_stream<Q>(args, inputs, begin, end);
    });
}

// Panels are expanded from Q to W, or read as they are where these are the same.
template <class Q, class W>
static void linear_many_rows(const BlockArgs& args) {
    const int64_t groups = args.groups(), panels = num_panels(args.n), tiles = args.tiles();
    const int64_t row_blocks = (args.m + kCachedRows - 1) / kCachedRows;
    InputGroup<W>* inputs = static_cast<InputGroup<W>*>(
        thread_scratch(static_cast<size_t>(args.m * groups) * sizeof(InputGroup<W>)));
    parallel_for(tiles, min_tasks(args.m / tiles * args.k * 4),
                 [&](int64_t begin, int64_t end, int) { quantize_tiles<W>(inputs, args, begin, end); });
    const int64_t task_bytes = args.panel_bytes * (args.m / row_blocks);
    parallel_for(row_blocks * panels, min_tasks(task_bytes), [&](int64_t begin, int64_t end, int) {
        // A task is one panel of one block of rows.
        for (int64_t task = begin; task < end;) {
            const int64_t block = task / panels, panel = task % panels;
            const int64_t count = end - task < panels - panel ? end - task : panels - panel;
            const int64_t begin_tile = tiles * block / row_blocks, end_tile = tiles * (block + 1) / row_blocks;
            run_share<Q, W>(args, inputs, {begin_tile, end_tile, panel, panel + count});
            task += count;
        }
    });
}

template <class Q>
static void linear_blocks(BlockArgs args) {
    args.panel_bytes = Q::panel_bytes(args.groups());
    if (args.tiles() == 1) {
        linear_few_rows<Q>(args);
    } else {
        linear_many_rows<Q, Expanded<Q>>(args);
    }
}

// Rows of GGUF blocks become rows first_row and on of a packed weight.
template <class Q>
static void pack_blocks_of(uint8_t* packed, int64_t k, int64_t first_row, const uint8_t* rows, int64_t num_rows) {
    const int64_t blocks = k / Q::Gguf::kSize, panel_bytes = Q::panel_bytes(k / kGroup);
    parallel_for(num_rows, min_tasks(k), [=](int64_t begin, int64_t end, int) {
        for (int64_t row = first_row + begin; row < first_row + end; ++row) {
            const uint8_t* in = rows + (row - first_row) * blocks * Q::Gguf::kBytes;
            uint8_t* panel = packed + row / kPanelRows * panel_bytes;
            for (int64_t block = 0; block < blocks; ++block)
                Q::put(panel, block, static_cast<int>(row % kPanelRows), in + block * Q::Gguf::kBytes);
        }
    });
}

static void pack_blocks(void* packed, int64_t k, int64_t first_row, const uint8_t* rows, int64_t num_rows,
                        int format) {
    with_packed_blocks(format, [&]<class Q>() {
        pack_blocks_of<Q>(static_cast<uint8_t*>(packed), k, first_row, rows, num_rows);
    });
}

}  // namespace kvik::KVIK_ISA
